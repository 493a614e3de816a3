"""A connection: what uvicorn's does, with limits for clients that send or read slowly, or without end.

Whenever no request is being answered, the next one's head must be there within a time from its first byte, or from
the connection's beginning; a body has a limit of its own where it is read (endpoint.py). A client that takes nothing of
its answer for as long is cut off, and what it has not taken counts as memory that is full.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bertie.config import ServeSettings
from bertie.errors import BertieError, ClientSlow, HeaderTooLarge, Overloaded, RequestError
from bertie.serve.journal import Entry
from bertie.serve.memory import Memory
from bertie.serve.wire.exchange import write_error

MAX_HEAD_BYTES = 32 * 1024
"""As nginx has it: path and headers together."""

MAX_HEADERS = 100
"""As Apache has it."""


ROUTE = "connection"
"""Stands for the path of what was refused before its path was read, in numbers and in the log."""


class Connection(HttpToolsProtocol):
    """One connection."""

    header_seconds: float
    max_connections: int
    memory: Memory
    count: Callable[[str, int], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._arrived = 0
        """Bytes since it waits for a head."""
        self._head_bytes = self._headers = 0
        """The head as far as the parser has told of it."""
        self._unread = 0
        """Bytes of an answer that wait for the client to take them."""
        self._refused: BertieError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the one above
        """Begin to wait for a request; one connection too many is refused."""
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _Forgiving(transport))  # it passes on all but `write`
        # Writing pauses as soon as the client's side is full, and goes on when it has taken all.
        transport.set_write_buffer_limits(high=1, low=0)
        if len(self.connections) > self.max_connections:
            self._refuse(Overloaded(f"there are {self.max_connections} connections already.", hint="try again"))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        for timer in (self._waiting, self._reading):
            if timer is not None:
                timer.cancel()
        self._waiting = self._reading = None
        self._leave_unread(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the connection was refused: what still comes then is thrown away."""
        if self._refused is not None:
            return
        # Between requests anything begins the time, also an empty line, and what is left of a refused body.
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        if self._waiting is not None:
            self._arrived += len(data)
        super().data_received(data)
        # The parser tells of a header when it is whole; this is for one that never is.
        if self._waiting is not None and self._refused is None and self._arrived > MAX_HEAD_BYTES:
            self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """Count the head from here."""
        self._head_bytes = self._headers = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers += 1
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop waiting: the request is passed on."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """See to it that the client takes what is written; no more is until it has."""
        super().pause_writing()
        self._leave_unread(self.transport.get_write_buffer_size())
        self._reading = self.loop.call_later(self.header_seconds, self._expect_less)

    def resume_writing(self) -> None:
        """Write on: it has."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._leave_unread(0)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refused."""
        self._refuse(self._refused or RequestError(msg, expected="HTTP/1.1"))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or self._headers > MAX_HEADERS:
            self._refused = _too_large()
            raise httptools.HttpParserError("too large")

    def _expect_head(self) -> None:
        self._arrived = 0
        self._waiting = self.loop.call_later(self.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._waiting = None
        if self._arrived:
            self._refuse(ClientSlow(f"the request's head was not there after {self.header_seconds:g} seconds."))
        else:
            self.transport.close()

    def _refuse(self, error: BertieError) -> None:
        """Answer without having read the request, and close."""
        self._refused = error
        if self.transport.is_closing():
            return
        entry = Entry(secrets.token_hex(8), "-", ROUTE, error.http_status, facts={"error": type(error).__name__})
        entry.write()
        self.count(ROUTE, error.http_status)
        body = write_error(error)
        status = f"{error.http_status} {HTTPStatus(error.http_status).phrase}"
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        again = "retry-after: 1\r\n" if isinstance(error, Overloaded) else ""
        named = f"x-request-id: {entry.request_id}\r\n"
        self.transport.write(f"{head}{again}{named}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _expect_less(self) -> None:
        """Cut the connection unless the client has taken some more of its answer."""
        left = self.transport.get_write_buffer_size()
        if left >= self._unread:
            self.transport.abort()
        else:
            self._leave_unread(left)
            self._reading = self.loop.call_later(self.header_seconds, self._expect_less)

    def _leave_unread(self, size: int) -> None:
        self.memory.unread(size - self._unread)
        self._unread = size


class _Forgiving:
    """A transport that drops what is written to a client who has left, as asyncio's do.

    uvloop's raise RuntimeError, some turns of the loop before `connection_lost` tells that it has left.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send bytes, or drop them."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _too_large() -> HeaderTooLarge:
    return HeaderTooLarge(
        "the request's head is too large.", expected=f"at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers"
    )


def limited(settings: ServeSettings, memory: Memory, count: Callable[[str, int], None]) -> type[Connection]:
    """Return the class of connections with these limits, whose unread answers are counted, and what is refused."""
    limits = {
        "header_seconds": settings.header_seconds,
        "max_connections": settings.max_connections,
        "memory": memory,
        "count": staticmethod(count),
    }
    return type("LimitedConnection", (Connection,), limits)
