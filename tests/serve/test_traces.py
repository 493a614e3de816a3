"""Spans, as the SDK's own exporter in memory gets them."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from fastapi import FastAPI
from tritonclient.utils import InferenceServerException

import bertie
from bertie.config import ServeSettings
from bertie.errors import DependencyMissing
from bertie.serve import grpc_server, traces
from bertie.serve.journal import Journal
from bertie.serve.server import app_for, endpoint_for
from tests.serve.process import running

pytest.importorskip("opentelemetry.sdk.trace.export")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(
    classifier: bertie.Classifier, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> httpx.AsyncClient:
    tracer = traces.make_tracer(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "tracer", lambda _: tracer)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app_for(classifier)), base_url="http://test")


@pytest.mark.anyio
async def test_a_request_is_a_span_with_its_phases_inside(
    client: httpx.AsyncClient, classifier: bertie.Classifier, exporter: InMemorySpanExporter
) -> None:
    response = await client.post("/invocations", json=["i love it"], headers={"x-request-id": "r1"})
    tokenize, queue, model, request = exporter.get_finished_spans()
    assert (request.name, request.kind, request.parent) == ("POST /invocations", SpanKind.SERVER, None)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/invocations",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "bertie.request_id": "r1",
        "bertie.texts": 1,
        "bertie.tokens": int(classifier.encode(["i love it"]).starts[-1]),
        "bertie.model": response.headers["x-model"],
    }
    assert [span.name for span in (tokenize, queue, model)] == ["tokenize", "queue", "model"]
    for span in (tokenize, queue, model):
        assert span.parent.span_id == request.context.span_id
        assert span.context.trace_id == request.context.trace_id
    assert request.start_time <= tokenize.start_time
    assert tokenize.end_time == queue.start_time
    assert queue.end_time == model.start_time
    assert model.end_time <= request.end_time
    phases = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert (model.end_time - model.start_time) / 1e6 == pytest.approx(float(phases["model"]), abs=0.01)
    assert request.resource.attributes["service.name"] == "bertie"
    assert "love" not in "".join(span.to_json() for span in exporter.get_finished_spans())


@pytest.mark.anyio
async def test_it_takes_part_in_the_clients_trace(client: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    await client.post("/invocations", json="a", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    request = exporter.get_finished_spans()[-1]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    exporter.clear()
    await client.post("/invocations", json="a", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert not exporter.get_finished_spans(), "who asks not to be sampled is not"
    await client.post("/invocations", json="a", headers={"traceparent": "no trace"})
    assert exporter.get_finished_spans()[-1].parent is None


@pytest.mark.anyio
async def test_errors_and_probes(client: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    await client.get("/ping")
    await client.get("/metrics")
    assert not exporter.get_finished_spans()
    await client.post("/invocations", content=b"[]")
    await client.get("/secret-path")
    refused, unknown = exporter.get_finished_spans()
    assert refused.attributes["error.type"] == "RequestInvalid"
    assert refused.status.status_code is StatusCode.UNSET, "it is the client's fault"
    assert unknown.name == "GET other"


@pytest.mark.anyio
async def test_a_failure_is_an_error_of_the_span(exporter: InMemorySpanExporter) -> None:
    app = FastAPI()

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    app.add_middleware(traces.Traced, tracer=traces.make_tracer(SimpleSpanProcessor(exporter)))
    app.add_middleware(Journal)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        with pytest.raises(RuntimeError):
            await client.get("/broken")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()


def test_spans_go_where_the_flag_or_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import opentelemetry.exporter.otlp.proto.http.trace_exporter as exporting
    from opentelemetry.sdk.trace import export

    made: list[Any] = []

    def exporter(endpoint: str | None) -> None:
        made.append(endpoint)

    monkeypatch.setattr(exporting, "OTLPSpanExporter", exporter)
    monkeypatch.setattr(export, "BatchSpanProcessor", lambda _: SimpleSpanProcessor(InMemorySpanExporter()))
    for name in (*traces.VARIABLES, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    assert traces.tracer(ServeSettings()) is None
    for given in ("http://a:4318", "http://a:4318/", "http://a:4318/v1/traces"):
        assert traces.tracer(ServeSettings(traces=given)) is not None
    monkeypatch.setenv(traces.VARIABLES[0], "http://b:4318")
    assert traces.tracer(ServeSettings()) is not None
    assert made == ["http://a:4318/v1/traces"] * 3 + [None]
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert traces.tracer(ServeSettings(traces="http://a:4318")) is None


def test_without_the_sdk_a_flag_is_an_error_and_the_environment_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(DependencyMissing) as caught:
        traces.tracer(ServeSettings(traces="http://a:4318"))
    assert caught.value.hint == "pip install 'bertie[otel]'"
    monkeypatch.setenv(traces.VARIABLES[0], "http://b:4318")
    with caplog.at_level(logging.WARNING, "bertie"):
        assert traces.tracer(ServeSettings()) is None
    assert "no traces" in caplog.text


def test_the_server_needs_no_sdk() -> None:
    program = "import sys, bertie.serve.server; assert 'opentelemetry.sdk' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


class Collector(BaseHTTPRequestHandler):
    """Takes spans as a collector does."""

    taken: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.taken.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.anyio
async def test_a_call_over_grpc_is_a_span_too(
    classifier: bertie.Classifier, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "tracer", lambda _: traces.make_tracer(SimpleSpanProcessor(exporter)))
    server, port = await grpc_server.start(endpoint_for(classifier, ServeSettings()), "127.0.0.1", 0)
    async with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert await client.is_model_ready("model")
        assert not exporter.get_finished_spans()
        given = triton.InferInput("text", [1], "BYTES")
        given.set_data_from_numpy(np.array(["i love it"], dtype=np.object_))
        await client.infer("model", [given], headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        with pytest.raises(InferenceServerException):
            await client.infer("unknown", [given])
    await server.stop(0)
    *phases, call, refused = exporter.get_finished_spans()
    assert [span.name for span in phases] == ["tokenize", "queue", "model"]
    assert {span.parent.span_id for span in phases} == {call.context.span_id}
    assert (call.name, call.kind) == ("inference.GRPCInferenceService/ModelInfer", SpanKind.SERVER)
    assert (f"{call.context.trace_id:032x}", f"{call.parent.span_id:016x}") == (TRACE, PARENT)
    assert (call.attributes["rpc.grpc.status_code"], call.attributes["bertie.texts"]) == (0, 1)
    assert (refused.attributes["rpc.grpc.status_code"], refused.attributes["error.type"]) == (5, "ModelUnknown")
    assert "love" not in "".join(span.to_json() for span in exporter.get_finished_spans())


@pytest.mark.slow
def test_a_real_server_sends_its_spans_before_it_ends(tiny_bundle: Path, tmp_path: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}"
        with running(tiny_bundle, tmp_path, "--quiet", "--traces", address) as server:
            httpx.post(f"{server.url}/invocations", json="i love it")
        collector.shutdown()
    ((path, body),) = Collector.taken
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert names == {"POST /invocations", "tokenize", "queue", "model"}
    assert server.said() == ""
