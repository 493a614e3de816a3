"""The Open Inference Protocol over gRPC, beside HTTP and in the same event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from bertie.errors import BertieError, ClientLeft, RequestError, UsageError
from bertie.serve import traces
from bertie.serve.endpoint import INLINE_BYTES, Endpoint
from bertie.serve.grpc_guard import Gate, add_port, begin, bytes_of
from bertie.serve.journal import note_answer, note_error
from bertie.serve.keys import Keys, admit
from bertie.serve.scheduler import INLINE_SCORES
from bertie.serve.tls import certificate
from bertie.serve.wire import oip, oip_grpc
from bertie.serve.wire.exchange import Found, Limits
from bertie.serve.wire.oip_messages import SERVICE, message
from bertie.version import __version__

STATES = {
    400: StatusCode.INVALID_ARGUMENT,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
    507: StatusCode.RESOURCE_EXHAUSTED,
}

PROBES = {"ServerLive", "ServerReady", "ModelReady"}
"""Methods that are called all the time, by machines, and have no spans."""

Handler = Callable[[Any, Any], Awaitable[Any]]


async def start(endpoint: Endpoint, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Start to answer, and return the server and its port. Raises UsageError where the port is taken."""
    limit = endpoint.settings.max_body_bytes
    keys = Keys(endpoint.settings.api_keys)
    server = grpc.aio.server(
        interceptors=[Gate(keys, endpoint.models)] if keys else [],
        options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", 0)],
        maximum_concurrent_rpcs=endpoint.settings.max_connections,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _handlers(endpoint, keys)),))
    try:
        certified = certificate(endpoint.settings.tls_cert, endpoint.settings.tls_key)
        bound = add_port(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", certified)
    except RuntimeError as error:
        raise UsageError(f"cannot listen on {host} port {port} for gRPC.", hint="choose another --grpc-port") from error
    await server.start()
    return server, bound


def _handlers(endpoint: Endpoint, keys: Keys) -> dict[str, Any]:
    calls = _Calls(endpoint)
    methods: dict[str, Handler] = {
        "ServerLive": calls.server_live,
        "ServerReady": calls.server_ready,
        "ServerMetadata": calls.server_metadata,
        "ModelReady": calls.model_ready,
        "ModelMetadata": calls.model_metadata,
        "ModelInfer": calls.model_infer,
    }
    tracer = traces.tracer(endpoint.settings)
    spans = traces.Spans(tracer) if tracer is not None else None
    return {
        name: grpc.unary_unary_rpc_method_handler(
            # Read in `_told`: grpc would answer what is no message in words of its own, and tell nobody.
            _told(name, method, endpoint, keys, None if name in PROBES else spans),
            response_serializer=message(f"{name}Response").SerializeToString,
        )
        for name, method in methods.items()
    }


def _told(name: str, method: Handler, endpoint: Endpoint, keys: Keys, spans: traces.Spans | None) -> Handler:
    """Have a method count its calls, tell its errors as gRPC does, and leave a line and a span."""

    read = message(f"{name}Request").FromString

    async def told(raw: bytes, context: Any) -> Any:
        entry = begin(f"/{SERVICE}/{name}", context)
        metadata = bytes_of(context.invocation_metadata() or ())
        span = spans.begin(entry, metadata) if spans else None
        status, state = 500, StatusCode.INTERNAL
        try:
            if keys and not name.startswith("Server"):
                admit(keys, metadata)  # it passed; this notes whose key it is
            answer = await method(_message(read, raw), context)
            status, state = 200, StatusCode.OK
        except asyncio.CancelledError:  # by its client, or its deadline, which are no faults of ours
            status, state = ClientLeft.http_status, StatusCode.CANCELLED
            note_error(ClientLeft("the client has left."))
            raise
        except BertieError as error:
            status = error.http_status
            state = STATES.get(status, StatusCode.INTERNAL)
            note_error(error)
            await context.abort(state, str(error))
        except Exception as error:  # nobody expected it; the answer must say nothing of the server's insides
            note_error(error)
            await context.abort(state, "the server failed on this request.")
        else:
            return answer
        finally:
            endpoint.models.count(f"/{SERVICE}/{name}", status)
            entry.status = status
            if spans:
                # Names of https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
                called = {"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": name}
                spans.finish(span, f"{SERVICE}/{name}", entry, called | {"rpc.grpc.status_code": state.value[0]})
            entry.write()

    return told


def _message(read: Callable[[bytes], Any], raw: bytes) -> Any:
    """Return a request. Raises RequestError where it is none, without a word of it."""
    try:
        return read(raw)
    except DecodeError:
        raise RequestError("the request is no message of the Open Inference Protocol.", expected=SERVICE) from None


class _Calls:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._models = endpoint, endpoint.models

    async def server_live(self, _: Any, __: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, _: Any, __: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._ready())

    async def server_metadata(self, _: Any, __: Any) -> Any:
        return message("ServerMetadataResponse")(name="bertie", version=__version__)

    async def model_ready(self, request: Any, _: Any) -> Any:
        self._find(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._ready())

    async def model_metadata(self, request: Any, _: Any) -> Any:
        self._models.check()
        self._find(request.name, request.version)
        async with self._models.lease(request.name) as held:
            facts = oip.metadata(request.name, held.labels, pairs=held.pairs)
        for tensor in (*facts["inputs"], *facts["outputs"]):
            tensor.pop("parameters", None)  # the message has no place for them
        return message("ModelMetadataResponse")(**facts)

    async def model_infer(self, request: Any, context: Any) -> Any:
        self._models.check()
        self._find(request.model_name, request.model_version)
        names = oip_grpc.asked(request)
        with self._endpoint.memory.holding() as hold:
            return await self._infer(request, context, names, hold)

    async def _infer(self, request: Any, context: Any, names: list[str], hold: Callable[[int], None]) -> Any:
        async with self._models.lease(request.model_name, self._endpoint.settings.timeout_seconds) as held:
            settings, size = self._endpoint.settings, request.ByteSize()
            limits = Limits(held.pairs, settings.max_texts, settings.max_characters)
            hold(size)
            texts = await self._endpoint.aside(size > INLINE_BYTES, lambda: oip_grpc.read(request, limits))
            # A call that its client ends is cancelled, and with it what it waits for.
            left, limit = context.time_remaining(), settings.timeout_seconds
            answer = await held.classify(texts, timeout=limit if left is None else min(left, limit))
        note_answer(answer, len(texts))
        context.set_trailing_metadata((*context.trailing_metadata(), ("x-model", answer.name)))
        return await self._endpoint.aside(
            answer.logits.size > INLINE_SCORES,
            lambda: oip_grpc.write(request, Found(answer.predictions, answer.logits, answer.decision.labels), names),
        )

    def _ready(self) -> bool:
        try:
            self._models.check()
        except BertieError:
            return False
        return True

    def _find(self, name: str, version: str) -> None:
        oip.check_version(version or "1")
        self._models.find(name)
