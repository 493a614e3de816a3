"""Log lines: one for each request, and never a text, whatever was sent and however it failed."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st

import bertie
from bertie.config import ServeSettings
from bertie.serve.app import make_app
from bertie.serve.endpoint import Endpoint
from bertie.serve.journal import Entry, request_id
from bertie.serve.logs import JsonLines, Lines
from bertie.serve.server import app_for, endpoint_for
from tests.serve.process import Running, running

MARKER = "zebrafish"
"""Stands in texts, and must come back in no error, and no line."""

HEAD = "axolotl"
"""Stands in headers, where no text is; an error may name it, a line must not."""


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


class Kept(logging.Handler):
    """Keeps what is logged as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), logging.getLogger("bertie")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.mark.anyio
async def test_a_request_is_a_line(classifier: bertie.Classifier, kept: Kept) -> None:
    client = client_of(app_for(classifier))
    response = await client.post("/invocations", json=["i love it", "where"], headers={"x-request-id": "abc-1"})
    (line,) = kept.lines
    assert line.keys() == {
        *("time", "level", "message", "request_id", "method", "route", "status", "ms", "texts", "tokens", "model")
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["level"], line["method"], line["route"], line["status"]) == ("info", "POST", "/invocations", 200)
    assert (line["texts"], line["tokens"]) == (2, int(classifier.encode(["i love it", "where"]).starts[-1]))
    assert line["model"] == response.headers["x-model"]
    assert line["request_id"] == response.headers["x-request-id"] == "abc-1"
    assert line["ms"].keys() == {"total", "tokenize", "queue", "model"}
    assert line["ms"]["total"] >= line["ms"]["model"] > 0


@pytest.mark.anyio
async def test_an_explanation_is_a_line_that_says_how_much_was_asked(classifier: bertie.Classifier, kept: Kept) -> None:
    response = await client_of(app_for(classifier)).post("/explain", json={"text": f"i love my {MARKER}"})
    (line,) = kept.lines
    assert (line["route"], line["status"], line["texts"], line["explained"]) == ("/explain", 200, 1, 4)
    assert MARKER in response.text
    assert MARKER not in json.dumps(kept.lines)


@pytest.mark.anyio
async def test_a_refusal_says_its_name_and_its_route_is_not_what_the_client_made_up(
    classifier: bertie.Classifier, kept: Kept
) -> None:
    client = client_of(app_for(classifier))
    await client.post("/invocations", content=b"[]")
    await client.get(f"/{MARKER}")
    await client.get(f"/v2/models/{MARKER}")
    assert [(line["route"], line["status"], line.get("error")) for line in kept.lines] == [
        ("/invocations", 422, "RequestInvalid"),
        ("other", 404, None),
        ("/v2/models/{model}", 404, "ModelUnknown"),
    ]
    assert MARKER not in json.dumps(kept.lines)


@pytest.mark.anyio
async def test_probes_leave_a_line_only_where_they_fail(classifier: bertie.Classifier, kept: Kept) -> None:
    endpoint = endpoint_for(classifier, ServeSettings())
    client = client_of(make_app(endpoint))
    for path in ("/ping", "/v2/health/live", "/v2/health/ready", "/v2/models/model/ready", "/metrics"):
        assert (await client.get(path)).status_code == 200
    assert not kept.lines
    endpoint.models.closing = True
    assert (await client.get("/ping")).status_code == 503
    (line,) = kept.lines
    assert (line["route"], line["status"], line["level"], line["error"]) == ("/ping", 503, "warning", "NotReady")


@pytest.mark.anyio
async def test_an_error_nobody_expected_is_told_by_its_place_and_not_by_its_words(
    classifier: bertie.Classifier, kept: Kept
) -> None:
    class Broken:
        async def returned(self, _: float) -> None:
            raise RuntimeError(f"cannot read {MARKER}")

        def count(self, *_: object) -> None:
            pass

    endpoint = Endpoint(ServeSettings(), Broken())  # type: ignore[arg-type]  # all that is used is there
    response = await client_of(make_app(endpoint)).post("/invocations", json=MARKER)
    assert (response.status_code, MARKER in response.text) == (500, False)
    (line,) = kept.lines
    assert (line["level"], line["error"]) == ("error", "RuntimeError")
    assert line["at"][-1].endswith(" returned")
    assert MARKER not in json.dumps(line)


def test_identifiers() -> None:
    assert request_id([(b"x-request-id", b"a.B-c_1")]) == "a.B-c_1"
    assert request_id([(b"x-amzn-sagemaker-inference-id", b"s1")]) == "s1"
    assert request_id([(b"x-request-id", b"a b"), (b"x-amzn-sagemaker-inference-id", b"s1")]) == "s1"
    assert request_id([]) != request_id([])


@given(st.binary(max_size=80))
def test_only_sane_identifiers_are_taken(raw: bytes) -> None:
    found = request_id([(b"x-request-id", raw)])
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found)
    assert found.encode() == raw or re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", raw) is None


@pytest.mark.anyio
async def test_errors_have_the_identifier_too(classifier: bertie.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTIE_API_KEYS", "first-key-0123456789")
    client = client_of(app_for(classifier))
    for path in ("/invocations", "/nowhere"):
        response = await client.post(path, content=b"", headers={"x-request-id": "mine"})
        assert response.headers["x-request-id"] == "mine"


def test_lines_for_people() -> None:
    record = logging.makeLogRecord({"msg": "request", "levelno": 20, "levelname": "INFO", "created": 0.0})
    record.entry = Entry("id1", "GET", "/docs", 200).line() | {"ms": {"total": 1.5}}
    assert Lines().format(record) == (
        "1970-01-01T00:00:00.000Z info    request request_id=id1 method=GET route=/docs status=200 total_ms=1.5"
    )


def test_lines_of_others_are_cut_to_what_cannot_be_a_text() -> None:
    try:
        int(MARKER)
    except ValueError:
        record = logging.LogRecord("asyncio", 40, "", 1, f"never retrieved\nfuture: {MARKER}", (), sys.exc_info())
    line = JsonLines().format(record)
    assert MARKER not in line
    assert json.loads(line)["error"] == "ValueError"
    assert json.loads(line)["message"] == "never retrieved"


@pytest.fixture(scope="module", params=[1, 2])
def server(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    flags: tuple[object, ...] = ("--log-format", "json", "--log-level", "debug", "--grpc-port", 0, "--max-texts", 5)
    flags += ("--workers", request.param, "--max-body-bytes", 2048, "--model-store", tmp_path_factory.mktemp("store"))
    with running(tiny_bundle, tmp_path_factory.mktemp("server"), *flags) as made:
        yield made


def bodies(good: dict[str, Any]) -> Iterator[bytes]:
    """Yield a body as it should be, and the same damaged in ways that each fail elsewhere."""
    whole = json.dumps(good).encode()
    yield whole
    yield whole[:-2]
    yield whole + b"x"
    yield b"\xff" + whole
    yield json.dumps({MARKER: MARKER}).encode()
    yield json.dumps([good]).encode()
    yield json.dumps({**good, MARKER: [MARKER] * 9}).encode()
    yield json.dumps([MARKER] * 9).encode()
    yield json.dumps([MARKER, "", 7]).encode()
    yield json.dumps(MARKER * 400).encode()
    yield f'{{"text": "{MARKER}\\ud800"}}'.encode()
    yield f'{{"text": "{MARKER}", "text_pair": "{MARKER}"}}'.encode()


CONTRACTS: dict[str, dict[str, Any]] = {
    "/invocations": {"inputs": MARKER, "parameters": {"top_k": 1}},
    "/predict": {"inputs": MARKER},
    "/v2/models/model/infer": {
        "id": "a",
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [MARKER]}],
    },
    "/models/model/invoke": {"text": MARKER},
    "/models": {"model_name": "a", "url": MARKER},
    "/v2/repository/models/model/load": {"parameters": {"x": MARKER}},
}
KINDS = ("application/json", "application/jsonlines", "text/csv", "text/plain", HEAD, f"application/json; a={HEAD}")


@pytest.mark.slow
def test_no_text_is_in_any_line_or_error(server: Running) -> None:
    statuses = set()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for path, good in CONTRACTS.items():
            for kind in KINDS:
                for body in bodies(good):
                    headers = {"content-type": kind, "x-request-id": f"{HEAD} {HEAD}", "accept": "*/*"}
                    response = client.post(path, content=body, headers=headers)
                    statuses.add(response.status_code)
                    assert MARKER not in str(response.headers), (path, kind, body)
                    if response.status_code >= 400:
                        assert MARKER not in response.text, (path, kind, body, response.text)
        client.post("/invocations", json=MARKER, headers={"accept": HEAD})
        client.get(f"/invocations?text={MARKER}")
        client.request(HEAD.upper(), "/invocations")
    over_grpc(server)
    assert {200, 400, 413, 415, 422} <= statuses, statuses
    said = server.said()
    lines = [json.loads(line) for line in said.splitlines()]
    assert len([line for line in lines if line["message"] == "request"]) > len(CONTRACTS) * len(KINDS) * 10
    assert {"/inference.GRPCInferenceService/ModelInfer"} <= {line.get("route") for line in lines}
    assert MARKER not in said.lower()
    assert HEAD not in said.lower()


def over_grpc(server: Running) -> None:
    def tensor(texts: list[str], name: str = "text") -> Any:
        made = triton.InferInput(name, [len(texts)], "BYTES")
        made.set_data_from_numpy(np.array(texts, dtype=np.object_))
        return made

    with triton.InferenceServerClient(f"127.0.0.1:{server.told['grpc_port']}") as client:
        client.infer("model", [tensor([MARKER])], headers={"x-request-id": "grpc-1"})
        for inputs in ([tensor([MARKER] * 9)], [tensor([MARKER], MARKER)], [tensor([MARKER, ""])]):
            with pytest.raises(triton.InferenceServerException) as caught:
                client.infer("model", inputs)
            assert MARKER not in str(caught.value)
    assert '"request_id": "grpc-1"' in server.said()
