"""The peers' own clients against a real server: what they read from Triton, SageMaker or the hub, they read here."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import huggingface_hub
import numpy as np
import pytest
import tritonclient.http as triton
from botocore.config import Config
from botocore.exceptions import ClientError
from tritonclient.utils import InferenceServerException

import bertie
from bertie.pipeline.demo import serving

pytestmark = pytest.mark.slow

TEXTS = ["where is my parcel", "i love it", "é ☕ 'quoted', \"twice\""]
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
PASSED_ON = {"content-type", "accept", "x-amzn-sagemaker-inference-id", ATTRIBUTES.lower()}


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[str]:
    with serving(tiny_bundle) as address:
        yield address.removeprefix("http://")


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server) as opened:
        yield opened


def tensor(texts: list[str], *, binary: bool) -> triton.InferInput:
    given = triton.InferInput("text", [len(texts)], "BYTES")
    given.set_data_from_numpy(np.asarray(texts, dtype=object), binary_data=binary)
    return given


def test_triton_finds_the_server_and_its_model(
    client: triton.InferenceServerClient, classifier: bertie.Classifier
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("model", "1")
    assert [one["name"] for one in metadata["outputs"]] == ["label", "score", "probabilities", "logits"]
    assert metadata["outputs"][3]["shape"] == [-1, len(classifier.labels)]
    assert [one["state"] for one in client.get_model_repository_index()] == ["READY"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_triton_reads_what_the_classifier_says(
    client: triton.InferenceServerClient,
    classifier: bertie.Classifier,
    binary_in: bool,
    binary_out: bool | None,
) -> None:
    names = ("logits", "label", "score", "probabilities")
    # The client asks for binary outputs unless told otherwise; without a list of outputs, for all of them.
    asked = None if binary_out is None else [triton.InferRequestedOutput(n, binary_data=binary_out) for n in names]
    answer = client.infer("model", [tensor(TEXTS, binary=binary_in)], outputs=asked, request_id="7")
    assert answer.get_response()["id"] == "7"
    wanted = classifier.predict(TEXTS)
    labels = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("label")]
    assert labels == [one.label for one in wanted]
    assert all(isinstance(one, str if binary_out is False else bytes) for one in answer.as_numpy("label"))
    np.testing.assert_allclose(answer.as_numpy("score"), [one.score for one in wanted], atol=1e-6)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), classifier.predict_proba(TEXTS), atol=1e-6)
    if binary_out is not None:
        np.testing.assert_allclose(answer.as_numpy("logits"), classifier.logits(TEXTS), atol=1e-5)


def test_triton_may_mix_binary_outputs_with_others(client: triton.InferenceServerClient) -> None:
    asked = [triton.InferRequestedOutput(name, binary_data=name != "label") for name in ("score", "label", "logits")]
    answer = client.infer("model", [tensor(TEXTS, binary=True)], outputs=asked)
    assert answer.as_numpy("label").dtype == object
    assert answer.as_numpy("score").shape == (3,)
    assert answer.as_numpy("logits").shape == (3, 2)


def test_triton_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'other' here") as unknown:
        client.infer("other", [tensor(["x"], binary=True)])
    assert unknown.value.status() == "404"
    with pytest.raises(InferenceServerException, match="text 0 is empty") as empty:
        client.infer("model", [tensor([" "], binary=True)])
    assert empty.value.status() == "422"
    with pytest.raises(InferenceServerException, match="does not have"):
        client.infer("model", [tensor(["x"], binary=True)], outputs=[triton.InferRequestedOutput("embedding")])


class Front(BaseHTTPRequestHandler):
    """What stands before a SageMaker endpoint: strips the path, passes on some headers, and wraps refusals."""

    backend = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        prefix, suffix = "/endpoints/tiny", "/invocations"
        headers = {name: value for name, value in self.headers.items() if name.lower() in PASSED_ON}
        asked = http.client.HTTPConnection(self.backend, timeout=60)
        asked.request("POST", self.path.removeprefix(prefix), body, headers)
        answer = asked.getresponse()
        raw, status = answer.read(), answer.status
        asked.close()
        back = {name: value for name, value in answer.getheaders() if name.lower() in PASSED_ON}
        if self.path != prefix + suffix or status >= 400:
            told = {"OriginalStatusCode": status, "OriginalMessage": raw.decode(), "Message": "Received client error"}
            status, raw = 424, json.dumps(told).encode()
            back = {"Content-Type": "application/json", "x-amzn-errortype": "ModelError"}
        self.send_response(status)
        for name, value in (back | {"Content-Length": str(len(raw))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def runtime(server: str) -> Iterator[Any]:
    front = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (Front,), {"backend": server}))
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    made = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{front.server_address[1]}",
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"max_attempts": 0}, proxies={}),
    )
    yield made
    made.close()
    front.shutdown()
    thread.join()
    front.server_close()


def invoke(runtime: Any, body: bytes, **more: str) -> tuple[bytes, dict[str, Any]]:
    answer = runtime.invoke_endpoint(EndpointName="tiny", Body=body, **more)
    with answer["Body"] as stream:
        return stream.read(), answer


def test_boto3_reads_an_answer_and_where_it_is_from(runtime: Any, classifier: bertie.Classifier) -> None:
    raw, answer = invoke(
        runtime, json.dumps(TEXTS).encode(), ContentType="application/json", InferenceId="a-1", Accept="*/*"
    )
    assert answer["ContentType"] == "application/json"
    wanted = classifier.predict(TEXTS)
    assert [one["label"] for one in json.loads(raw)] == [one.label for one in wanted]
    kind, _, origin = answer["CustomAttributes"].partition("=")
    assert kind == "model"
    assert origin.startswith("model/bundle@")


def test_boto3_asks_for_lines_csv_and_raw_scores(runtime: Any, classifier: bertie.Classifier) -> None:
    lines = "".join(json.dumps(text) + "\n" for text in TEXTS).encode()
    raw, answer = invoke(runtime, lines, ContentType="application/jsonlines")
    assert answer["ContentType"] == "application/jsonlines"
    assert len(raw.splitlines()) == len(TEXTS)
    raw, answer = invoke(runtime, json.dumps(TEXTS).encode(), ContentType="application/json", Accept="text/csv")
    assert answer["ContentType"] == "text/csv"
    assert raw.decode().splitlines()[0].split(",")[0] == classifier.predict(TEXTS)[0].label
    for more in ({"Accept": "application/json; output=logits"}, {"CustomAttributes": "trace=7; output=logits"}):
        raw, _ = invoke(runtime, json.dumps(TEXTS).encode(), ContentType="application/json", **more)
        np.testing.assert_allclose(json.loads(raw), classifier.logits(TEXTS), atol=1e-5)


def test_boto3_asks_for_the_best_labels_by_custom_attributes(runtime: Any, classifier: bertie.Classifier) -> None:
    body = json.dumps(TEXTS).encode()
    raw, _ = invoke(runtime, body, ContentType="application/json", CustomAttributes="top_k=1,trace=7")
    assert [[one["label"] for one in row] for row in json.loads(raw)] == [
        [one.label] for one in classifier.predict(TEXTS)
    ]
    raw, _ = invoke(runtime, body, ContentType="application/json", CustomAttributes="top_k=all;output=logits")
    assert [{one["label"] for one in row} for row in json.loads(raw)] == [set(classifier.labels)] * 3
    best = [row[0]["score"] for row in json.loads(raw)]
    np.testing.assert_allclose(best, classifier.logits(TEXTS).max(axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"nope", {"ContentType": "application/json"}, 400),
        (b"[]", {"ContentType": "application/json"}, 422),
        (b"x", {"ContentType": "application/x-npy"}, 415),
        (b'"x"', {"ContentType": "application/json", "Accept": "image/png"}, 406),
        (b'"x"', {"ContentType": "application/json", "CustomAttributes": "top_k=0"}, 422),
        (b'"x"', {"ContentType": "text/csv", "CustomAttributes": "top_k=1"}, 406),
    ],
)
def test_boto3_is_told_what_is_wrong(runtime: Any, body: bytes, more: dict[str, str], status: int) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(runtime, body, **more)
    told: dict[str, Any] = dict(caught.value.response)
    assert told["Error"]["Code"] == "ModelError"
    assert told["OriginalStatusCode"] == status
    assert json.loads(told["OriginalMessage"])["error"]["message"].endswith(".")


def test_the_hubs_client_gets_all_labels_the_best_first(
    server: str, classifier: bertie.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # nothing but the address below is asked
    hub = huggingface_hub.InferenceClient(model=f"http://{server}/models/model")
    for text, wanted in zip(TEXTS, classifier.predict(TEXTS), strict=True):
        found = hub.text_classification(text)
        assert [one.label for one in found] == sorted(wanted.scores, key=wanted.scores.__getitem__, reverse=True)
        assert found[0].score == pytest.approx(wanted.score, abs=1e-6)
    (best,) = hub.text_classification(TEXTS[0], top_k=1, function_to_apply="none")
    assert best.score == pytest.approx(float(classifier.logits(TEXTS[:1]).max()), abs=1e-5)
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="422"):
        hub.text_classification(TEXTS[0], function_to_apply="softmax")
