"""Being asked to stop: the update in progress is finished first, so that what is saved is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bertie.errors import BertieError, Interrupted, Preempted
from bertie.talk import Talk

AGAIN = "bertie train --resume RUN goes on, and so does the same command with --auto-resume"


class Stop:
    """Whether somebody asked to stop, and with which signal."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.waits = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block the asking is noted, and the block looks at `by`; outside it ends what is done at once."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False


@contextmanager
def stop_on_signals(talk: Talk) -> Iterator[Stop]:
    """Note SIGTERM and Ctrl-C while `Stop.waiting`; a second Ctrl-C raises KeyboardInterrupt at once.

    Before and after, they raise Preempted and KeyboardInterrupt. Outside the main thread, where Python allows no
    handlers, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and (stop.by is signal.SIGINT or not stop.waits):
            raise KeyboardInterrupt
        if not stop.waits:
            raise Preempted(
                "asked to end (SIGTERM) while no update was in progress; what is in the run stays.", hint=AGAIN
            )
        stop.by = signal.Signals(number)
        if number == signal.SIGINT:
            talk.say("stopping after this update; Ctrl-C again stops at once")

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def asked_to_end(by: signal.Signals | None, when: str, run: Path) -> BertieError:
    """Return the error with which a training ends that was asked to, all of it being saved; `by` may be another's."""
    if by is signal.SIGINT:
        return Interrupted(
            f"stopped {when}.",
            hint=f"bertie train --resume {run} goes on, bertie export {run} makes a bundle of what is there",
        )
    return Preempted(
        f"asked to end (SIGTERM) {when}; all of it is saved.", hint=f"bertie train --resume {run} goes on just there"
    )
