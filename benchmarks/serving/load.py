"""An open-loop load generator: a request is sent when it is due, whether or not those before it were answered.

Its time counts from when it was due, not from when it was sent, so that a server that stalls pays for all who would
have come meanwhile (no "coordinated omission"). HTTP/1.1 over keep-alive connections, as many as it takes. One thread
around epoll and a timer of nanoseconds, because it shares the cores with what it measures; Linux only.

`python -m benchmarks.serving.load` reads a Plan as JSON from stdin, and writes what came of it as one line of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 99, 99.9)
PARTS = 10
"""The time is cut into so many parts, for which there are figures too."""
STALE_SECONDS = 2.0
"""Servers close connections that were idle for some seconds, and a request must not cross with that."""
BROKEN = -1
"""The status of a request whose connection broke, or whose answer is no HTTP."""


@dataclass(frozen=True)
class Plan:
    """What is sent where, and when."""

    port: int
    path: str
    bodies: list[str]
    labels: list[list[Any]]
    """For each body the answers that are right; nothing checks answers. An answer is a path into its JSON."""
    rate: float
    seconds: float
    answer: list[Any] = field(default_factory=list)
    """Where in an answer's JSON the label stands: keys and places."""
    even: bool = False
    """Send at equal distances; Poisson otherwise."""
    seed: int = 0
    patience: float = 10.0
    """Seconds after which a request that has no answer hangs."""
    host: str = "127.0.0.1"


@dataclass
class Connection:
    """A socket, and the request that is on it."""

    socket: socket.socket
    number: int = -1
    """Of the request; -1 for none."""
    idle_since: float = 0.0
    unsent: bytes = b""
    received: bytearray = field(default_factory=bytearray)


def due_times(rate: float, seconds: float, seed: int, *, even: bool = False) -> NDArray[np.float64]:
    """Return when requests are due, ascending, in [0, seconds): a Poisson process, or at equal distances."""
    if even:
        return np.arange(int(rate * seconds)) / rate
    random = np.random.default_rng(seed)
    # As many as come with certainty: ten standard deviations above the mean.
    most = int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 10)
    times = np.cumsum(random.exponential(1 / rate, most))
    return times[times < seconds]


class Timer:
    """A file descriptor that is readable at a time of time.monotonic(); epoll itself knows milliseconds only."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._library.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, when: float) -> None:
        """Be readable from then on, at once if that is over."""
        whole = int(when)
        spec = struct.pack("llll", 0, 0, whole, max(1, int(1e9 * (when - whole))))
        self._library.timerfd_settime(self.descriptor, 1, spec, None)  # 1: the time is absolute


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        head = f"POST {plan.path} HTTP/1.1\r\nhost: {plan.host}:{plan.port}\r\ncontent-type: application/json\r\n"
        bodies = [body.encode() for body in plan.bodies]
        self._requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._offsets = due_times(plan.rate, plan.seconds, plan.seed, even=plan.even)
        count = len(self._offsets)
        if plan.even:
            self._texts = [number % len(bodies) for number in range(count)]
        else:
            self._texts = np.random.default_rng(plan.seed + 1).integers(len(bodies), size=count).tolist()
        self._due: list[float] = []
        self._sent, self._done, self._status = [0.0] * count, [0.0] * count, [0] * count
        self._next = self._open = self._most = self._differ = self._connections = 0
        self._busy: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._epoll, self._timer = select.epoll(), Timer()

    def run(self) -> dict[str, Any]:
        """Send all requests, wait for the answers, and return what came of it."""
        self._epoll.register(self._timer.descriptor, select.EPOLLIN)
        begun = time.monotonic() + 0.05
        cpu = time.process_time()
        self._due = (self._offsets + begun).tolist()
        self._timer.set(self._due[0])
        end = self._due[-1] + self._plan.patience
        while (self._next < len(self._due) or self._open) and time.monotonic() < end:
            for descriptor, event in self._epoll.poll(0.1):
                if descriptor == self._timer.descriptor:
                    self._send_due()
                else:
                    self._attend(self._busy.get(descriptor), event)
        cpu = time.process_time() - cpu
        for connection in [*self._busy.values(), *self._idle]:
            connection.socket.close()
        self._epoll.close()
        os.close(self._timer.descriptor)
        return self._report(cpu)

    def _send_due(self) -> None:
        os.read(self._timer.descriptor, 8)
        now = time.monotonic()
        while self._next < len(self._due) and self._due[self._next] <= now:
            self._send(self._next, now)
            self._next += 1
        if self._next < len(self._due):
            self._timer.set(self._due[self._next])

    def _send(self, number: int, now: float) -> None:
        connection = self._connection(now)
        connection.number = number
        connection.unsent = self._requests[self._texts[number]]
        self._open += 1
        self._most = max(self._most, self._open)
        self._sent[number] = now
        self._push(connection)

    def _connection(self, now: float) -> Connection:
        # The one used last: those that are too many grow old and are closed.
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < STALE_SECONDS:
                return connection
            self._drop(connection)
        plug = socket.socket()
        plug.setblocking(False)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plug.connect_ex((self._plan.host, self._plan.port))
        self._connections += 1
        connection = self._busy[plug.fileno()] = Connection(plug)
        self._epoll.register(plug.fileno(), select.EPOLLIN)
        return connection

    def _push(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(connection, BROKEN)
            return
        connection.unsent = connection.unsent[sent:]
        if connection.unsent:
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _attend(self, connection: Connection | None, event: int) -> None:
        if connection is None:
            return
        if event & select.EPOLLOUT and connection.unsent:
            self._push(connection)
            if not connection.unsent and connection.number >= 0:
                self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
        if event & ~select.EPOLLOUT and connection.socket.fileno() >= 0:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            part = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._end(connection, BROKEN)
            return
        connection.received += part
        answer = parsed(connection.received)
        if answer is not None:
            self._end(connection, *answer)

    def _end(self, connection: Connection, status: int, body: bytes = b"") -> None:
        """Note what a request came to; without a request, a connection that the server has closed."""
        number, connection.number = connection.number, -1
        connection.received = bytearray()
        if number >= 0:
            self._open -= 1
            self._done[number] = connection.idle_since = time.monotonic()
            self._status[number] = status
            if status == 200 and self._plan.labels and not self._right(number, body):
                self._differ += 1
        if status == BROKEN:
            self._drop(connection)
        elif number >= 0:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._busy.pop(connection.socket.fileno(), None)
        connection.socket.close()

    def _right(self, number: int, body: bytes) -> bool:
        try:
            return found(json.loads(body), self._plan.answer) in self._plan.labels[self._texts[number]]
        except (ValueError, LookupError, TypeError):
            return False

    def _report(self, cpu: float) -> dict[str, Any]:
        count = self._next
        due, sent, done = (np.asarray(values[:count]) for values in (self._due, self._sent, self._done))
        status = np.asarray(self._status[:count])
        times = 1e3 * (done - due)
        hangs = (status == 0) | (times > 1e3 * self._plan.patience)
        good = (status == 200) & ~hangs
        part = np.minimum((PARTS * (due - due[0]) / self._plan.seconds).astype(int), PARTS - 1)
        return {
            "rate": self._plan.rate,
            "seconds": self._plan.seconds,
            "sent": count,
            "statuses": {str(key): value for key, value in sorted(Counter(status[status > 0].tolist()).items())},
            "broken": int((status == BROKEN).sum()),
            "hangs": int(hangs.sum()),
            "differ": self._differ,
            "ms": figures(times[good]),
            "refused_ms": figures(times[(status == 429) & ~hangs]),
            "p99_by_part": [figures(times[good & (part == place)]).get("p99") for place in range(PARTS)],
            "good_by_part": [int((good & (part == place)).sum()) for place in range(PARTS)],
            "most_in_flight": self._most,
            "connections": self._connections,
            "late_ms": figures(1e3 * (sent - due)),
            "cpu_seconds": cpu,
        }


def parsed(received: bytearray) -> tuple[int, bytes] | None:
    """Return status and body of an answer of HTTP/1.1; nothing as long as it is not whole, BROKEN if it is none."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    place = head.find(b"content-length:")
    if not head.startswith(b"http/1.1 ") or place < 0:
        return BROKEN, b""
    length = int(head[place + 15 :].split(b"\r\n", 1)[0])
    if len(received) < end + 4 + length:
        return None
    return int(head[9:12]), bytes(received[end + 4 : end + 4 + length])


def found(value: Any, path: list[Any]) -> Any:
    """Return what stands at a path in a JSON value."""
    for step in path:
        value = value[step]
    return value


def figures(times: NDArray[np.float64]) -> dict[str, float]:
    """Return percentiles and the maximum; nothing of nothing, which has no latency and not one of zero."""
    if not len(times):
        return {}
    values = np.percentile(times, PERCENTILES)
    named = {f"p{percent:g}": float(value) for percent, value in zip(PERCENTILES, values, strict=True)}
    return named | {"max": float(times.max())}


def main() -> None:
    """Run the plan."""
    plan = Plan(**json.load(sys.stdin))
    load = Load(plan)
    gc.disable()
    print(json.dumps(load.run()))


if __name__ == "__main__":
    main()
