"""Runs the application: binds, loads in the background, is ready when warmed and probed, stops without losing work."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from bertie.config import ServeSettings
from bertie.errors import BertieError, UsageError, need
from bertie.runtime.classifier import Classifier
from bertie.serve.app import make_app
from bertie.serve.endpoint import Endpoint
from bertie.serve.shares import Share, parse

GRACE_SECONDS = 25
"""Time for accepted requests after SIGTERM; SageMaker kills after 30."""


def serve(models: Sequence[str], settings: ServeSettings, *, announce: Callable[[str, int | None], None]) -> None:
    """Serve models, told as `shares.parse` reads them, until SIGINT or SIGTERM.

    `announce` is called with the address, and the port of gRPC if there is one, once all models are ready. Raises
    UsageError where a port is taken or two models have one name, BundleError where a model cannot be loaded.
    """
    asyncio.run(_serve(parse(models, settings.name), settings, announce))


async def _serve(
    models: dict[str, tuple[Share, ...]], settings: ServeSettings, announce: Callable[[str, int | None], None]
) -> None:
    endpoint = Endpoint(settings)
    app = make_app(endpoint)
    listener = _bind(settings)
    server = _Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    )
    server.endpoint = endpoint
    failure: list[BertieError] = []

    async def loading() -> None:
        try:
            await endpoint.models.open(models)
        except BertieError as error:
            failure.append(error)
            server.should_exit = True
            return
        host, port = listener.getsockname()[:2]
        announce(f"http://{host}:{port}", grpc_port)
        if settings.watch_seconds:
            await endpoint.models.watch(settings.watch_seconds)

    async with _grpc(endpoint, settings) as grpc_port, _background(loading):
        await server.serve(sockets=[listener])
    await endpoint.models.close()
    if failure:
        raise failure[0]


class _Server(uvicorn.Server):
    endpoint: Endpoint

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.endpoint.models.closing = True
        await super().shutdown(sockets)


@asynccontextmanager
async def _grpc(endpoint: Endpoint, settings: ServeSettings) -> AsyncIterator[int | None]:
    if settings.grpc_port is None:
        yield None
        return
    try:
        from bertie.serve.grpc_server import start  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("grpc", error) from error
    server, port = await start(endpoint, settings.host, settings.grpc_port)
    try:
        yield port
    finally:
        await server.stop(GRACE_SECONDS)


@asynccontextmanager
async def _background(work: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _bind(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}.",
            hint="choose another port with --port, or 0 for a free one",
        ) from error
    return listener


def app_for(classifier: Classifier, settings: ServeSettings | None = None) -> FastAPI:
    """Return an application around a loaded classifier, for tests and for mounting into another one."""
    endpoint = Endpoint(settings or ServeSettings())
    endpoint.models.add(endpoint.settings.name, classifier)
    return make_app(endpoint)
