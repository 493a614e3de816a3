"""OpenTelemetry spans: one for each request, and in it one for each phase. An extra; without it nothing is imported."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertie.config import ServeSettings
from bertie.errors import DependencyMissing, need
from bertie.serve.journal import ENTRY, QUIET, Entry
from bertie.version import __version__

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Where spans go if no flag says so: https://opentelemetry.io/docs/specs/otel/protocol/exporter/."""

LOG = logging.getLogger("bertie")


def need_sdk() -> None:
    """Raise DependencyMissing where what sends spans is not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: PLC0415
        import opentelemetry.sdk.trace.export  # noqa: F401, PLC0415
    except ImportError as error:
        raise need("otel", error) from error


def tracer(settings: ServeSettings) -> Any | None:
    """Return what makes spans and sends them, None where none are wanted.

    Raises DependencyMissing where `--traces` asks for them and they cannot be made; where it is the environment, which
    may speak to all programs of a machine, a line in the log says so.
    """
    wanted = settings.traces or any(os.environ.get(name) for name in VARIABLES)
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        need_sdk()
    except DependencyMissing as error:
        if settings.traces:
            raise
        LOG.warning("no traces: %s pip install 'bertie[otel]'", error.what)
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # The variable's address is the collector's, to which the exporter adds the path; a given one is taken as it is.
    endpoint = f"{settings.traces.rstrip('/').removesuffix('/v1/traces')}/v1/traces" if settings.traces else None
    return make_tracer(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))


def make_tracer(processor: Any) -> Any:
    """Return what makes spans and hands them to a processor. What was not sent is when the process ends."""
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", "bertie")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name, SERVICE_VERSION: __version__}))
    provider.add_span_processor(processor)
    return provider.get_tracer("bertie", __version__)


class Spans:
    """Makes the span of a request, below the one that `traceparent` names, and in it one for each phase."""

    def __init__(self, tracer: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._tracer, self._propagator = tracer, TraceContextTextMapPropagator()

    def begin(self, entry: Entry, headers: Iterable[tuple[bytes, bytes]]) -> Any:
        """Return the span of a request that begins, of which the log line has the trace's number."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        parent = self._propagator.extract(given)
        span = self._tracer.start_span(entry.method, context=parent, kind=SpanKind.SERVER, start_time=time.time_ns())
        entry.facts["trace_id"] = f"{span.get_span_context().trace_id:032x}"
        return span

    def finish(self, span: Any, name: str, entry: Entry, attributes: dict[str, Any]) -> None:
        """End a request's span, with what its entry knows."""
        from opentelemetry.trace import StatusCode, set_span_in_context  # noqa: PLC0415

        span.update_name(name)
        span.set_attributes(attributes | {"bertie.request_id": entry.request_id})
        for fact in ("texts", "tokens", "model", "error"):
            if fact in entry.facts:
                span.set_attribute("error.type" if fact == "error" else f"bertie.{fact}", entry.facts[fact])
        if entry.status >= 500 or not entry.status:
            span.set_status(StatusCode.ERROR)
        inside = set_span_in_context(span)
        # The phases follow each other, and the last one ended when the answer was there.
        at = entry.answered - round(1e9 * sum(entry.phases.values()))
        for phase, seconds in entry.phases.items():
            child = self._tracer.start_span(phase, context=inside, start_time=at)
            at += round(1e9 * seconds)
            child.end(end_time=at)
        span.end()


class Traced:
    """Makes the spans of each HTTP request. Probes have none."""

    def __init__(self, app: ASGIApp, tracer: Any) -> None:
        self._app, self._spans = app, Spans(tracer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        entry = ENTRY.get()
        if scope["type"] != "http" or entry is None or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        span = self._spans.begin(entry, scope["headers"])

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            entry.route = getattr(scope.get("route"), "path", "other")
            # Names of https://opentelemetry.io/docs/specs/semconv/http/http-spans/; a text is in none of them.
            attributes = {
                "http.request.method": entry.method,
                "http.route": entry.route,
                "http.response.status_code": entry.status,
                "url.scheme": scope["scheme"],
            }
            self._spans.finish(span, f"{entry.method} {entry.route}", entry, attributes)
