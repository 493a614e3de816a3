"""Starts the processes of a server, starts again what dies, and ends them in order."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bertie.config import ServeSettings
from bertie.errors import BertieError
from bertie.serve.limits import GRACE_SECONDS, address, bind
from bertie.serve.shares import parse
from bertie.serve.workers import processes

LOG = logging.getLogger("bertie")

SHORT_LIFE = 5.0
"""Seconds; what dies sooner is started again only after a wait, which doubles each time."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0


@dataclass(eq=False)
class Child:
    """One of the processes, or the place of one that is to be started again."""

    name: str
    target: Callable[..., None]
    arguments: tuple[Any, ...]
    process: BaseProcess | None = None
    begun: float = 0.0
    wait: float = 0.0
    """Seconds from its death until it is started again."""

    def start(self) -> None:
        """Start it."""
        # "spawn", because a copy of a process with threads, which "fork" makes, may hang.
        self.process = multiprocessing.get_context("spawn").Process(
            target=self.target, args=self.arguments, name=f"bertie-{self.name}", daemon=False
        )
        self.process.start()
        self.begun = time.monotonic()

    def died(self) -> None:
        """Take note that it has ended, and decide when it is started again."""
        if self.process is None:
            return
        self.process.join()  # its end is seen a moment before it is one
        lived = time.monotonic() - self.begun
        self.wait = 0.0 if lived > SHORT_LIFE else min(max(FIRST_WAIT, 2 * self.wait), LONGEST_WAIT)
        LOG.warning("%s ended after %.0f s with %s; starting it again", self.name, lived, self.process.exitcode)
        self.arguments = (*self.arguments[:-1], None)  # nobody listens any more: a pipe would fill up
        self.process.close()
        self.process, self.begun = None, time.monotonic()

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.process is not None and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process is not None:
            self.process.terminate()

    def stop(self, deadline: float) -> None:
        """Ask it to end, and end it if it does not."""
        if self.process is None:
            return
        self.terminate()
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            LOG.warning("%s did not end in time, and is killed", self.name)
            self.process.kill()
            self.process.join()


def supervise(models: Sequence[str], settings: ServeSettings, *, announce: Callable[[str, int | None], None]) -> None:
    """Serve with several processes until SIGINT or SIGTERM. Takes and raises what server.serve does."""
    shares = parse(models, settings.name)
    listener = bind(settings)
    heard, told = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="bertie-") as place, contextlib.closing(listener), _woken() as wake:
        path = Path(place) / "models"
        holder = Child("models", processes.models, (shares, settings, path, told))
        https = [
            Child(f"http-{number}", processes.http, (listener, settings, path, told))
            for number in range(settings.workers)
        ]
        try:
            holder.start()
            grpc_port = _first_word(heard, wake, [holder])
            for child in https:
                child.start()
            _first_word(heard, wake, [holder, *https])
            announce(address(listener, settings), grpc_port or None)
            _watch([holder, *https], wake)
        except _Ended:
            pass
        finally:
            # Those who speak to clients first: what they accepted is still answered by the models.
            deadline = time.monotonic() + settings.drain_seconds + GRACE_SECONDS
            holder.tell(processes.NOTHING_NEW)
            for child in https:
                child.terminate()
            for child in (*https, holder):
                child.stop(deadline)


class _Ended(Exception):
    """A signal came before all was there."""


def _first_word(pipe: Connection, wake: socket.socket, children: list[Child]) -> int:
    """Return what one of some processes tells first. Raises the error that it tells, or that one has died."""
    happened = wait([pipe, wake, *(child.process.sentinel for child in children if child.process is not None)])
    if wake in happened:
        raise _Ended
    if pipe not in happened:
        raise BertieError("a process of the server died as it started.", hint="its own message stands above")
    told = pipe.recv()
    if isinstance(told, BertieError):
        raise told
    return int(told)


def _watch(children: list[Child], wake: socket.socket) -> None:
    """Start again what dies, until a signal comes."""
    while True:
        alive = {child.process.sentinel: child for child in children if child.process is not None}
        waits = [child.begun + child.wait - time.monotonic() for child in children if child.process is None]
        happened = wait([wake, *alive], timeout=max(0.0, min(waits)) if waits else None)
        if wake in happened:
            return
        for sentinel in happened:
            alive[sentinel].died()  # type: ignore[index]  # all but `wake` are sentinels
        for child in children:
            if child.process is None and time.monotonic() >= child.begun + child.wait:
                child.start()


@contextmanager
def _woken() -> Iterator[socket.socket]:
    """Give a socket that can be read from once SIGINT or SIGTERM has come."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wake(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            theirs.send(b"!")

    before = {number: signal.signal(number, wake) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()
