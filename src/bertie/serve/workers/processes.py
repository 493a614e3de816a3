"""What runs in each process of a server with several.

What they need is imported in them: the supervisor stays small.
"""
# ruff: noqa: PLC0415 - for that reason

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
from multiprocessing.connection import Connection
from pathlib import Path

from bertie.config import ServeSettings
from bertie.errors import BertieError
from bertie.serve.loops import run
from bertie.serve.shares import Share


def models(shares: dict[str, tuple[Share, ...]], settings: ServeSettings, path: Path, told: Connection) -> None:
    """Hold the models, until SIGTERM. The port of gRPC, 0 for none, or an error is sent to `told` once it is known."""
    os.setpgrp()  # Ctrl-C would reach every process of a group; the supervisor ends them in order
    run(_models(shares, settings, path, told))


async def _models(shares: dict[str, tuple[Share, ...]], settings: ServeSettings, path: Path, told: Connection) -> None:
    from bertie.serve import logs
    from bertie.serve.endpoint import Endpoint
    from bertie.serve.models import Models
    from bertie.serve.server import background, with_grpc
    from bertie.serve.workers.host import Host

    logs.configure(settings)
    held = Models(settings)
    ended = _ended()
    path.unlink(missing_ok=True)  # what an earlier process left, which was killed
    host = await Host(held).listen(path)
    try:
        async with with_grpc(Endpoint(settings, held)) as port:
            await held.open(shares)
            told.send(port or 0)
            watching = held.watch(settings.watch_seconds) if settings.watch_seconds else asyncio.sleep(0)
            async with background(watching):
                await ended.wait()
    except BertieError as error:
        told.send(error)
    host.close()
    await held.close()


def http(listener: socket.socket, settings: ServeSettings, path: Path, told: Connection) -> None:
    """Speak HTTP, until SIGTERM. A number is sent to `told` once requests can be answered."""
    os.setpgrp()
    run(_http(listener, settings, path, told))


async def _http(listener: socket.socket, settings: ServeSettings, path: Path, told: Connection) -> None:
    from bertie.serve.endpoint import Endpoint
    from bertie.serve.server import Server, background
    from bertie.serve.workers.remote import RemoteModels

    held = RemoteModels()
    _end_with_the_supervisor()

    async def tell() -> None:
        await held.ready.wait()
        told.send(0)

    async with background(held.run(path)), background(tell()):
        await Server(Endpoint(settings, held)).serve(sockets=[listener])


def _ended() -> asyncio.Event:
    """Return what is set when SIGTERM comes, or the supervisor has ended."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    _end_with_the_supervisor()
    return ended


def _end_with_the_supervisor() -> None:
    """Take the supervisor's end, which may have been killed, as SIGTERM."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.remove_reader(supervisor.sentinel)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(supervisor.sentinel, end)
