"""A training that the system kills, most often because memory ran out, goes on by itself.

The work is done by a child process. The parent holds next to no memory, so the child is what the system takes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2): what a process gets when its parent dies


def in_worker(restarts: int, ended: Callable[[int], None] | None = None) -> int:
    """Split into a parent that watches and a child that works, and return in the child: how often one was killed.

    The parent never returns: it passes SIGTERM and Ctrl-C on, starts another child if one is killed (SIGKILL) and
    `restarts` are left, and ends as the last child did, after it has told `ended` the exit code. To be called before
    PyTorch is imported and threads run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for kills in range(restarts + 1):
        parent = os.getpid()
        child = os.fork()
        if not child:
            _follow(parent)
            return kills
        status = _wait(child)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            break
        left = restarts - kills
        again = "starting again from the last checkpoint with fewer tokens at once" if left else "giving up"
        sys.stderr.write(f"warning: training was killed, most often because memory ran out; {again}\n")
    code = os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    if ended is not None:
        ended(code)
    os._exit(code)


def _follow(parent: int) -> None:
    """Die with the parent, and take Ctrl-C from it alone: in a terminal both would get it."""
    os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it died before we asked


def _wait(child: int) -> int:
    """Return the child's wait status; signals meant for both go on to it."""

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return os.waitpid(child, 0)[1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
