"""One artifact behind AWS's toolkits and behind `bertie serve`, asked by the same client: the answers are equal."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bertie.deploy.sagemaker.artifact import write_artifact
from bertie.pipeline.demo import serving
from tests.deploy.sagemaker.containers import container
from tests.serve.process import running

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""Greatest difference of a score between PyTorch and ONNX Runtime, both in fp32."""

LONG = "where is my parcel " * 40
JSON, LINES, CSV, PLAIN = "application/json", "application/jsonlines", "text/csv", "text/plain"

GOOD: dict[str, tuple[str, str, bytes]] = {
    "a text": (JSON, "", b'"where is my parcel"'),
    "a list of other lengths": (JSON, "*/*", json.dumps(["love it", LONG, "where is it"]).encode()),
    "an object": (JSON, JSON, b'{"text": "where is my parcel"}'),
    "with a charset": ("application/json; charset=utf-8", "", '["naïve café, 東京"]'.encode()),
    "the toolkit's": (JSON, "", b'{"inputs": "where is my parcel"}'),
    "the toolkit's, all labels": (JSON, "", b'{"inputs": ["love it", "parcel"], "parameters": {"top_k": null}}'),
    "raw scores, as the old sample": (JSON, "application/json; output=logits", b'["love it", "parcel"]'),
    "several kinds of answer": (JSON, "text/html, application/json;q=0.5", b'["love it"]'),
    "lines": (LINES, LINES, b'"love it"\n{"text": "where is my parcel"}\n{"inputs": "so late"}\n'),
    "lines into JSON": (LINES, JSON, b'"love it"\n"parcel"\n'),
    "a table": (CSV, "", b'"love it, truly"\nparcel\n'),
    "a table with the toolkit's header": (CSV, CSV, b"inputs\nlove it\nparcel\n"),
    "plain text": (PLAIN, "", b"love it\nwhere is my parcel\n"),
}

BAD: dict[str, tuple[int, str, str, bytes]] = {
    "no JSON": (400, JSON, "", b'{"secret words": '),
    "not UTF-8": (400, JSON, "", b'"secret \xff"'),
    "not UTF-8, in a table": (400, CSV, "", b"secret \xff\n"),
    "a number": (422, JSON, "", b"[1]"),
    "an empty text": (422, JSON, "", b'["secret", " "]'),
    "no text": (422, JSON, "", b"[]"),
    "half a character": (422, JSON, "", b'["secret \\ud800"]'),
    "another shape": (422, JSON, "", b'{"secret": "secret"}'),
    "a wrong parameter": (422, JSON, "", b'{"inputs": "secret", "parameters": {"top_k": 0}}'),
    "too many texts": (413, JSON, "", json.dumps(["secret"] * 5000).encode()),
    "another content type": (415, "application/x-npy", "", b"secret"),
    "another kind of answer": (406, JSON, "image/png", b'"secret"'),
}


@pytest.fixture(scope="module")
def base(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SageMaker makes of an artifact: a folder with `model` in it."""
    folder = tmp_path_factory.mktemp("ml")
    artifact = write_artifact(tiny_run, folder / "model.tar.gz", "huggingface")
    with tarfile.open(artifact.path) as tar:
        tar.extractall(folder / "model", filter="data")
    return folder


@pytest.fixture(scope="module")
def ours(tiny_run: Path) -> Iterator[str]:
    with serving(tiny_run) as address:
        yield address


@pytest.fixture(scope="module", params=["sagemaker-inference", "huggingface"])
def theirs(request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(str(request.param))
    shutil.copytree(base / "model", folder / "model")
    with container(request.param, folder) as address:
        yield address


def ask(address: str, kind: str, accept: str, body: bytes) -> httpx.Response:
    headers = {"Content-Type": kind} | ({"Accept": accept} if accept else {"Accept": "*/*"})
    return httpx.post(f"{address}/invocations", content=body, headers=headers, timeout=60)


def parsed(response: httpx.Response) -> Any:
    """Return the answer as values, numbers among them as numbers."""
    kind = response.headers["content-type"].partition(";")[0]
    if kind == CSV:
        return [[_number(field) for field in row] for row in csv.reader(io.StringIO(response.text))]
    return [json.loads(line) for line in response.text.splitlines()] if kind == LINES else response.json()


def _number(field: str) -> Any:
    try:
        return float(field)
    except ValueError:
        return field


def flat(value: Any) -> list[Any]:
    """Return names and leaves in order, so that two answers can be compared with a tolerance for numbers."""
    if isinstance(value, dict):
        return [leaf for key, one in value.items() for leaf in (key, *flat(one))]
    return [leaf for one in value for leaf in flat(one)] if isinstance(value, list) else [value]


def same(left: Any, right: Any) -> None:
    pairs = list(zip(flat(left), flat(right), strict=True))
    assert pairs
    for one, other in pairs:
        number = isinstance(one, float)
        assert one == pytest.approx(other, abs=TOLERANCE) if number else one == other


@pytest.mark.parametrize("name", GOOD)
def test_answers_are_equal(theirs: str, ours: str, name: str) -> None:
    answers = [ask(address, *GOOD[name]) for address in (theirs, ours)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    kinds = [answer.headers["content-type"] for answer in answers]
    assert kinds[0].partition(";")[0] == kinds[1].partition(";")[0]
    same(*map(parsed, answers))


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_alike(theirs: str, ours: str, name: str) -> None:
    status, kind, accept, body = BAD[name]
    answers = [ask(address, kind, accept, body) for address in (theirs, ours)]
    assert [answer.status_code for answer in answers] == [status, status], answers[0].text
    assert answers[0].json() == answers[1].json()
    for answer in answers:
        told = answer.text + answer.reason_phrase
        assert "Traceback" not in told
        assert "secret" not in told


def test_the_multi_model_api_is_the_same(base: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """The Hugging Face handler, because the plain one does not find a model's program among several models."""
    models = tmp_path / "mms" / "models"
    shutil.copytree(base / "model", models / "a" / "model")
    store = tmp_path / "store"
    shutil.copytree(tiny_bundle, store / "a" / "model")
    (tmp_path / "mms" / "model").mkdir(parents=True)
    with container("huggingface", tmp_path / "mms", SAGEMAKER_MULTI_MODEL="true") as theirs:
        found = _conversation(theirs, models / "a" / "model")
    with running(tiny_bundle, tmp_path, "--model-store", store) as server:
        own = _conversation(server.url, store / "a" / "model")
    assert found["statuses"] == own["statuses"] == [200, 409, 200, 200, 200, 200, 404, 404, 404]
    assert found["listed"] == own["listed"]
    same(found["answer"], own["answer"])


def _conversation(address: str, model: Path) -> dict[str, Any]:
    """Load, list, ask and unload a model, as SageMaker does; return what came."""
    with httpx.Client(base_url=address, timeout=120) as client:
        body = {"model_name": "hash1", "url": str(model)}
        loaded, again = client.post("/models", json=body), client.post("/models", json=body)
        listed, one = client.get("/models"), client.get("/models/hash1")
        asked = client.post("/models/hash1/invoke", json=["where is my parcel", "love it"])
        gone = client.delete("/models/hash1")
        after = [client.request(method, "/models/hash1") for method in ("GET", "DELETE")]
        after.append(client.post("/models/hash1/invoke", json=["where is my parcel"]))
    every = [loaded, again, listed, one, asked, gone, *after]
    return {
        "statuses": [response.status_code for response in every],
        "listed": "hash1" in [known["modelName"] for known in listed.json()["models"]],
        "answer": asked.json(),
    }
