"""Keys, TLS and log lines for gRPC, as HTTP has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from bertie.errors import KeyRefused
from bertie.serve.holder import Holder
from bertie.serve.journal import ENTRY, Entry, note_error, request_id
from bertie.serve.keys import Keys, admit
from bertie.serve.tls import Certificate

OPEN = ("/ServerLive", "/ServerReady")


def bytes_of(metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Return metadata as HTTP has its headers."""
    return [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in metadata]


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets calls pass that have a key, or need none."""

    def __init__(self, keys: Keys, models: Holder) -> None:
        self._keys, self._models = keys, models

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """Pass a call on, or have it refused."""
        if not call.method.endswith(OPEN):
            try:
                admit(self._keys, bytes_of(call.invocation_metadata or ()))
            except KeyRefused as error:
                return grpc.unary_unary_rpc_method_handler(self._refusal(error))
        return await continuation(call)

    def _refusal(self, error: KeyRefused) -> Callable[[Any, Any], Awaitable[None]]:
        async def refuse(_: Any, context: Any) -> None:
            entry = begin("other", context)  # what was asked for is of the client's making, and was not looked at
            note_error(error)
            self._models.count("other", error.http_status)
            entry.status = error.http_status
            entry.write()
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))

        return refuse


def add_port(server: grpc.aio.Server, address: str, certified: Certificate | None) -> int:
    """Listen, with TLS where there is a certificate, which may be replaced. Raises RuntimeError where that fails."""
    if certified is None:
        return int(server.add_insecure_port(address))

    given = certified.pair

    def fetch() -> Any:
        nonlocal given
        certified.refresh()
        if certified.pair is given:
            return None
        given = certified.pair
        return grpc.ssl_server_certificate_configuration([given])

    first = grpc.ssl_server_certificate_configuration([given])
    credentials = grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=False)
    return int(server.add_secure_port(address, credentials))


def begin(route: str, context: Any) -> Entry:
    """Return the entry of a call that begins, and have its identifier sent back."""
    entry = Entry(request_id(bytes_of(context.invocation_metadata() or ())), "gRPC", route)
    ENTRY.set(entry)
    context.set_trailing_metadata((("x-request-id", entry.request_id),))
    return entry
