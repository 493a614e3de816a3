"""What happens to a server while it is under load: its model is replaced, one of its processes is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.session import Session


def replace(session: Session, _: int) -> dict[str, Any]:
    """Load the model again from disk in the place of itself; return the status, and how long that took."""
    begun = time.monotonic()
    status, _ = session.server.ask("/v2/repository/models/model/load", "{}", seconds=120)
    return {"act": "replace", "status": status, "seconds": time.monotonic() - begun}


def kill(session: Session, turn: int) -> dict[str, Any]:
    """Kill one of the server's child processes: in turn the one that was started last, and the one with the models.

    That is the largest. Nothing is killed where there is none: `bertie serve --workers 2` has them.
    """
    pids = session.server.pids()[1:]
    if not pids:
        return {"act": "kill", "pid": None}
    which = "models" if turn % 2 else "last"
    pid = max(pids, key=_resident) if which == "models" else pids[-1]
    os.kill(pid, signal.SIGKILL)
    return {"act": "kill", "pid": pid, "of": len(pids), "which": which}


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # it has just ended
        return 0


@contextmanager
def every(seconds: float, act: Callable[[int], dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Do something, which is told the how manieth time it is, at equal distances while the block runs.

    What came of it is in the list.
    """
    over, done = threading.Event(), list[dict[str, Any]]()

    def loop() -> None:
        while not over.wait(seconds):
            begun = time.monotonic()
            try:
                done.append({"at": begun} | act(len(done)))
            except OSError as error:
                done.append({"at": begun, "failed": str(error)})

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()
