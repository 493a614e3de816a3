"""Threads that have slept wake up on cores of their own, not on the one that another thread wakes them from.

In a virtual machine Linux may wake a thread on the core of who wakes it, behind that one, although another core sleeps;
it moves there when the scheduler looks again, 4 ms later, which is more than a short text takes. (A core that sleeps
looks as if the host had taken it away.) docs/lab-notes.md has the figures.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

IDLE_SECONDS = 0.001
"""Threads that computed so shortly before are awake still, or their cores are."""


def threads_now() -> set[int]:
    """Return the numbers that Linux gives the threads of this process; none elsewhere."""
    try:
        return set(map(int, os.listdir("/proc/self/task")))  # noqa: PTH208 - for each request after a pause
    except OSError:
        return set()


class Workers:
    """The threads that an engine computes with, beside the one that calls it."""

    def __init__(self, threads: Iterable[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = set(threads)
        self._clock, self._last = clock, -math.inf
        self._core = _core_of() if self._threads else None

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Keep them off the caller's core if they sleep; for as long as this lasts, so that no core is lost to them."""
        allowed: set[int] = set()
        others: set[int] = set()
        if self._core is not None and self._clock() - self._last >= IDLE_SECONDS:
            allowed = os.sched_getaffinity(0)
            others = allowed - {self._core()}
        if others:
            self._put_on(others)
        try:
            yield
        finally:
            if others:
                self._put_on(allowed)
            self._last = self._clock()

    def _put_on(self, cores: set[int]) -> None:
        for thread in self._threads & threads_now():  # the number of one that has ended may be another process's by now
            with contextlib.suppress(OSError):  # the cores that this process may use may be others by now
                os.sched_setaffinity(thread, cores)


def _core_of() -> Callable[[], int] | None:
    """Return what says on which core the caller runs; None where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)
