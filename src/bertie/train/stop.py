"""Being asked to stop: the update in progress is finished first, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bertie.talk import Talk


class Stop:
    """Whether somebody asked to stop, and with which signal."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None


@contextmanager
def stop_on_signals(talk: Talk) -> Iterator[Stop]:
    """Note SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C raises KeyboardInterrupt at once.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _: FrameType | None) -> None:
        if stop.by is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.by = signal.Signals(number)
        if number == signal.SIGINT:
            talk.say("stopping after this update; Ctrl-C again stops at once")

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
