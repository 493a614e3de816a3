"""HTTP/1.1 as uvicorn speaks it, with limits for what comes before a body: uvicorn has none with this parser."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bertie.errors import RequestError
from bertie.serve.wire.exchange import write_error

MOST_HEAD = 64 * 1024
"""Bytes of the address and the headers of a request, together."""
HEAD_SECONDS = 20.0
"""Time for them, counted from the connection or the request's first byte."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    head_seconds = HEAD_SECONDS
    _head = 0
    _in_head = False
    _too_large = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what came, unless a head has become too large."""
        begun = self._in_head
        super().data_received(data)
        self._head = self._head + len(data) if begun and self._in_head else 0
        if self._head > MOST_HEAD and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Take note that a head begins."""
        super().on_message_begin()
        self._in_head = True
        self._wait()

    def on_headers_complete(self) -> None:
        """Take note that it has ended. What is raised here becomes an answer by `send_400_response`."""
        self._in_head = False
        self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD:
            self._too_large = True
            raise ValueError
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Where a body was refused before it was all there, do not wait for the rest of it for ever."""
        unread = self.cycle is not None and self.cycle.more_body
        super().on_response_complete()
        if unread:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or has too large a head, and hang up."""
        error = RequestError("the request is no HTTP/1.1 that can be read.", hint="check its headers and its length")
        if self._too_large:
            error = RequestError("the address and the headers are too large.", expected=f"at most {MOST_HEAD} bytes")
        body = write_error(error)
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[431 if self._too_large else 400] + head + body)
        self.transport.close()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
