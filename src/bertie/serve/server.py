"""Runs the application: binds, loads in the background, is ready when warmed and probed, stops without losing work."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bertie.config import ServeSettings
from bertie.errors import need
from bertie.runtime.classifier import Classifier
from bertie.serve import logs
from bertie.serve.app import make_app
from bertie.serve.endpoint import Endpoint
from bertie.serve.limits import GRACE_SECONDS, address, bind
from bertie.serve.loop import run
from bertie.serve.models import Models
from bertie.serve.operations import allow_connections, uvicorn_options
from bertie.serve.shares import Share, parse
from bertie.serve.tls import certificate
from bertie.serve.watching import watch


def serve(models: Sequence[str], settings: ServeSettings, *, announce: Callable[[str, int | None], None]) -> None:
    """Serve models, told as `shares.parse` reads them, until SIGINT or SIGTERM.

    `announce` is called with the address, and the port of gRPC if there is one, once all models are ready. Raises
    UsageError where a port is taken or two models have one name, BundleError where a model cannot be loaded.
    """
    run(_serve(parse(models, settings.name), settings, announce))


async def _serve(
    shares: dict[str, tuple[Share, ...]], settings: ServeSettings, announce: Callable[[str, int | None], None]
) -> None:
    models = Models(settings)
    endpoint = Endpoint(settings, models)
    listener = bind(settings)
    failure: list[Exception] = []

    async def loading(server: uvicorn.Server, grpc_port: int | None) -> None:
        try:
            await models.open(shares)
        except Exception as error:  # a server that can never be ready ends, whatever the reason
            failure.append(error)
            server.should_exit = True
            return
        announce(address(listener, settings), grpc_port)
        await watch(models, settings.watch_seconds)

    server = Server(endpoint)
    async with with_grpc(endpoint, server.grace) as grpc_port, background(loading(server, grpc_port)):
        await server.serve(sockets=[listener])
    await models.close()
    if failure:
        raise failure[0]


class Server(uvicorn.Server):
    """Serves HTTP until SIGTERM; from then on nothing new is taken, and what was accepted is answered."""

    def __init__(self, endpoint: Endpoint) -> None:
        settings = endpoint.settings
        logs.configure(settings)
        allow_connections(settings.max_connections)
        certified = certificate(settings.tls_cert, settings.tls_key)
        options = uvicorn_options(settings, endpoint.memory, endpoint.models.count, certified)
        config = uvicorn.Config(make_app(endpoint), timeout_graceful_shutdown=GRACE_SECONDS, **options)
        config.load()
        config.ssl = certified.context if certified else None
        super().__init__(config)
        self._models, self._settings = endpoint.models, settings
        self._closing_since = 0.0

    def grace(self) -> float:
        """Return the seconds that are left for what was accepted, once the server is closing."""
        return max(0.0, GRACE_SECONDS - (time.monotonic() - self._closing_since))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen. With TLS a handshake has the time of a request's head; uvicorn leaves it a minute."""
        if self.config.ssl is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        made: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        connection = functools.partial(
            made, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        loop, limit = asyncio.get_running_loop(), self._settings.header_seconds
        self.servers = [
            await loop.create_server(
                connection, sock=one, backlog=self.config.backlog, ssl=self.config.ssl, ssl_handshake_timeout=limit
            )
            for one in sockets or ()
        ]
        self.started = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. SIGTERM is how a server is stopped well, and leads to exit code 0: uvicorn must not raise it again."""
        self._models.closing = True
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what is new, with an answer for as long as somebody may not know yet, and wait for the rest."""
        self._models.closing = True
        self._closing_since = time.monotonic()
        if not self.force_exit:
            await asyncio.sleep(self._settings.drain_seconds)
        await super().shutdown(sockets)


@asynccontextmanager
async def with_grpc(
    endpoint: Endpoint, grace: Callable[[], float] = lambda: GRACE_SECONDS
) -> AsyncIterator[int | None]:
    """Answer gRPC too while the block runs, if that is wanted; give the port.

    `grace` is asked at the end for the seconds that calls have then.
    """
    if endpoint.settings.grpc_port is None:
        yield None
        return
    try:
        from bertie.serve.grpc_server import start  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("grpc", error) from error
    server, port = await start(endpoint, endpoint.settings.host, endpoint.settings.grpc_port)
    try:
        yield port
    finally:
        await server.stop(grace())


@asynccontextmanager
async def background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do something while the block runs, and no longer."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def app_for(classifier: Classifier, settings: ServeSettings | None = None) -> FastAPI:
    """Return an application around a loaded classifier, for tests and for mounting into another one."""
    return make_app(endpoint_for(classifier, settings or ServeSettings()))


def endpoint_for(classifier: Classifier, settings: ServeSettings) -> Endpoint:
    """Return an endpoint that answers with a loaded classifier."""
    models = Models(settings)
    models.add(settings.name, classifier)
    return Endpoint(settings, models)
