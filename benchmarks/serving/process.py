"""A server as a process: started, waited for, watched second by second, stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_SECONDS = 180
STOP_SECONDS = 30


class Failed(Exception):
    """A server did not start, or gave no answer; the message is its last words."""


@dataclass
class Server:
    """A process that listens, and its children."""

    process: subprocess.Popen[bytes]
    port: int
    samples: list[dict[str, float]] = field(default_factory=list)
    """One a second since it was ready; see `sample`."""

    def pids(self) -> list[int]:
        """Return the process and all its descendants."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (thread / "children").read_text(encoding="ascii").split())
        return found

    def sample(self) -> dict[str, float]:
        """Return resident megabytes, open files, threads and CPU seconds, of all its processes together."""
        total = dict.fromkeys(("mb", "files", "threads", "cpu_seconds"), 0.0)
        pids = self.pids()
        for pid in pids:
            # A process may end at any time.
            with contextlib.suppress(OSError):
                proc = Path(f"/proc/{pid}")
                numbers = (proc / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                total["cpu_seconds"] += (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
                total["threads"] += int(numbers[17])
                total["mb"] += int(numbers[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
                total["files"] += len(list((proc / "fd").iterdir()))
        return total | {"processes": len(pids), "seconds": time.monotonic()}

    def ask(self, path: str, body: str, *, seconds: float = 30) -> tuple[int, bytes]:
        """Return status and body of the answer to one POST. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("POST", path, body.encode(), {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running(
    command: list[str], port: int, probe: tuple[str, str], log: Path, environ: dict[str, str]
) -> Iterator[Server]:
    """Start a server, wait until it answers the probe (path and body) with 200, and stop it at the end.

    Raises Failed with the last line it said.
    """
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | environ,
            cwd=log.parent,
            start_new_session=True,
        )
    server = Server(process, port)
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(server, over), daemon=True)
    try:
        _wait(server, probe, log)
        watching.start()
        yield server
    finally:
        over.set()
        _stop(server)


def free_port() -> int:
    """Return a port of the loopback interface that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(server: Server, probe: tuple[str, str], log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask(*probe)[0] == 200:
                return
        time.sleep(0.2)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise Failed((lines or ["it said nothing"])[-1][:300])


def _watch(server: Server, over: threading.Event) -> None:
    while not over.wait(1.0):
        server.samples.append(server.sample())


def _stop(server: Server) -> None:
    server.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(STOP_SECONDS)
    # What it has started and left behind is in the session that was made for it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def growth(samples: list[dict[str, Any]], name: str = "mb") -> dict[str, float]:
    """Return how a figure began, ended, and peaked: means of the first and last tenth after a warm-up of one tenth."""
    if len(samples) < 20:
        return {}
    values = [float(one[name]) for one in samples]
    tenth = len(values) // 10
    first, last = values[tenth : 2 * tenth], values[-tenth:]
    return {"begin": sum(first) / tenth, "end": sum(last) / tenth, "most": max(values)}
