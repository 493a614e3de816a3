"""What runs in each process of a server with several.

What they need is imported in them: the supervisor stays small.
"""
# ruff: noqa: PLC0415 - for that reason

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from bertie.config import ServeSettings
from bertie.errors import BertieError
from bertie.serve.loop import run
from bertie.serve.shares import Share

LOG = logging.getLogger("bertie")

NOTHING_NEW = signal.SIGUSR1
"""What the process of the models gets while those of HTTP finish what they have accepted: gRPC takes no new calls."""


def models(shares: dict[str, tuple[Share, ...]], settings: ServeSettings, path: Path, told: Connection | None) -> None:
    """Hold the models, until SIGTERM.

    The port of gRPC, 0 for none, or an error is sent to `told` once it is known, if anybody listens.
    """
    os.setpgrp()  # Ctrl-C would reach every process of a group; the supervisor ends them in order
    sys.exit(run(_models(shares, settings, path, told)))


async def _models(
    shares: dict[str, tuple[Share, ...]], settings: ServeSettings, path: Path, told: Connection | None
) -> int:
    from bertie.serve import logs
    from bertie.serve.endpoint import Endpoint
    from bertie.serve.models import Models
    from bertie.serve.server import background, with_grpc
    from bertie.serve.watching import watch
    from bertie.serve.workers.host import Host

    logs.configure(settings)
    held, code = Models(settings), 0
    ended = _ended()
    asyncio.get_running_loop().add_signal_handler(NOTHING_NEW, setattr, held, "closing", True)
    path.unlink(missing_ok=True)  # what an earlier process left, which was killed
    notes = path.with_name("models.json")
    host = await Host(held, notes).listen(path)
    try:
        async with with_grpc(Endpoint(settings, held)) as port:
            known = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else []
            await held.open(shares, known)
            if told is not None:
                told.send(port or 0)
            async with background(watch(held, settings.watch_seconds)):
                await ended.wait()
    except BertieError as error:
        LOG.error("the process that holds the models cannot start: %s", error)  # noqa: TRY400 - the sentence says it
        if told is not None:
            told.send(error)
        code = 1
    host.close()
    await held.close()
    return code


def http(listener: socket.socket, settings: ServeSettings, path: Path, told: Connection | None) -> None:
    """Speak HTTP, until SIGTERM. A number is sent to `told` once requests can be answered, if anybody listens."""
    os.setpgrp()
    run(_http(listener, settings, path, told))


async def _http(listener: socket.socket, settings: ServeSettings, path: Path, told: Connection | None) -> None:
    from bertie.serve.endpoint import Endpoint
    from bertie.serve.server import Server, background
    from bertie.serve.workers.remote import RemoteModels

    held = RemoteModels(again=told is None)
    _end_with_the_supervisor()

    async def tell() -> None:
        await held.ready.wait()
        if told is not None:
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
