"""A training that the system kills, most often because memory ran out, or that crashes goes on by itself.

The work is done by a child process. The parent holds next to no memory, so the child is what the system takes.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from bertie.errors import Preempted

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2): what a process gets when its parent dies

DEATHS = {
    signal.SIGKILL: "was killed, most often because memory ran out",
    signal.SIGABRT: "crashed in native code (SIGABRT), as it also does where memory cannot be had",
    signal.SIGBUS: "crashed in native code (SIGBUS), as it also does where memory or disk cannot be had",
    signal.SIGSEGV: "crashed in native code (SIGSEGV)",
}
"""Ends after which a training may go on, and how they are told. Whoever sends another signal wants the end."""


def in_worker(restarts: int, ended: Callable[[int], None] | None = None) -> int:
    """Split into a parent that watches and a child that works, and return in the child: how often one was killed.

    The parent never returns: it passes SIGTERM and Ctrl-C on, starts another child if one dies of `DEATHS` and
    `restarts` are left, and ends as the last child did, after it has told `ended` the exit code. One of several
    processes that train together cannot be started again alone: torchrun does that with all of them, and learns from
    nobody why one died, so that is noted for the next start. To be called before PyTorch is imported and threads run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    notes = Notes.of(os.environ)
    before = notes.count()
    for kills in range(1 if "WORLD_SIZE" in os.environ else restarts + 1):
        parent = os.getpid()
        child = os.fork()
        if not child:
            _follow(parent)
            faulthandler.enable()  # where it crashed
            return before + kills
        status, asked = _wait(child)
        by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if by not in DEATHS or asked:
            break
        if by == signal.SIGKILL:  # the libraries between processes crash for other reasons than memory
            notes.add()
        sys.stderr.write(f"warning: training {DEATHS[signal.Signals(by)]}; {_next(restarts - kills)}\n")
    code = os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    if asked and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM:
        # It was not training just then, so there was nothing to write.
        sys.stderr.write("error: asked to end (SIGTERM); what is in the run stays, and --resume RUN goes on with it.\n")
        code = Preempted.exit_code
    if ended is not None:
        ended(code)
    os._exit(code)


def _next(left: int) -> str:
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun starts all again if it may (--max-restarts), after a kill with fewer tokens at once"
    if "WORLD_SIZE" in os.environ:  # somebody else's processes, such as an old PyTorchJob's
        return "start all processes of this training again, and they go on from the last checkpoint"
    if left:
        return "starting again from the last checkpoint with fewer tokens at once"
    return (
        "giving up; --resume RUN goes on from the last checkpoint, and --batch-tokens beside it computes fewer at once"
    )


class Notes:
    """How often processes of this host were killed since torchrun began: files in the folder that it has for a job.

    TORCHELASTIC_ERROR_FILE is FOLDER/attempt_N/LOCAL_RANK/error.json; `reify` in
    `torch/distributed/elastic/multiprocessing/api.py`.
    """

    def __init__(self, error_file: Path | None) -> None:
        self._place = error_file.with_name("killed") if error_file else None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Notes:
        """Return the notes of the torchrun that started this process; empty ones without it."""
        named = environment.get("TORCHELASTIC_ERROR_FILE")
        return cls(Path(named) if named else None)

    def count(self) -> int:
        """Return how many there are."""
        return len(list(self._place.parents[2].glob(f"attempt_*/*/{self._place.name}"))) if self._place else 0

    def add(self) -> None:
        """Note that this process was killed."""
        if self._place and self._place.parent.is_dir():
            self._place.touch()


def _follow(parent: int) -> None:
    """Die with the parent, and take Ctrl-C from it alone: in a terminal both would get it."""
    os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it died before we asked


def _wait(child: int) -> tuple[int, bool]:
    """Return the child's wait status, and whether we were asked to end; signals meant for both go on to it."""
    asked = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            asked.append(number)
        os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return os.waitpid(child, 0)[1], bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
