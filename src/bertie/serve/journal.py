"""One log line for each request: what was asked and how long it took, never a text.

What is known of a request gathers in an `Entry` on its way through the server, from wherever it is known.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
import traceback
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertie.errors import BertieError

if TYPE_CHECKING:
    from bertie.serve.scheduler import (
        Answer,  # its module needs the model's libraries, which a supervisor has no use for
    )

LOG = logging.getLogger("bertie.request")

QUIET = frozenset({"/ping", "/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready", "/metrics"})
"""Routes that are asked all the time, by machines, and leave a line only where they fail."""

ID_HEADERS = (b"x-request-id", b"x-amzn-sagemaker-inference-id")

SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")

FRAMES = 8
"""Places in the source, innermost last, that are logged of an error nobody expected."""


@dataclass
class Entry:
    """What is known of one request."""

    request_id: str
    method: str
    route: str = "other"
    """The path as it is written in the routes: what clients make up says too much of them."""
    status: int = 0
    """0 where the server stopped before there was an answer."""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds."""
    answered: int = 0
    """When the last of the phases ended, in nanoseconds since 1970."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else there is: texts, tokens, model, key, error."""
    begun: float = field(default_factory=time.perf_counter)

    def line(self) -> dict[str, Any]:
        """Return what is logged; times in milliseconds."""
        seconds = {"total": time.perf_counter() - self.begun} | self.phases
        return {
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "ms": {phase: round(1e3 * value, 3) for phase, value in seconds.items()},
        } | self.facts

    def write(self) -> None:
        """Log it, if it is worth a line."""
        if self.route in QUIET and 200 <= self.status < 300:
            return
        # 503 and 504 are what a busy or a stopping server says; other codes from 500 on are faults.
        level = logging.INFO if self.status < 500 else logging.WARNING if self.status in {503, 504} else logging.ERROR
        if LOG.isEnabledFor(level):
            LOG.log(level, "request", extra={"entry": self.line()})


ENTRY: ContextVar[Entry | None] = ContextVar("entry", default=None)
"""The request that is being answered."""


def note(**facts: Any) -> None:
    """Add to what is known of the request that is being answered, if one is."""
    entry = ENTRY.get()
    if entry is not None:
        entry.facts |= facts


def note_key(name: str) -> None:
    """Add whose key it has."""
    note(key=name)


def note_answer(answer: Answer, texts: int) -> None:
    """Add what it was answered with."""
    entry = ENTRY.get()
    if entry is not None:
        entry.phases, entry.answered = answer.phases, time.time_ns()
        entry.facts |= {"texts": texts, "tokens": answer.tokens, "model": answer.name}


def note_error(error: BaseException) -> None:
    """Add why there was no answer: the error's name, and where it is the server's fault, what can be told of it.

    The words of our errors hold no text of a request; those of others may, so that only their places are told.
    """
    note(error=type(error).__name__)
    if not isinstance(error, BertieError):
        note(at=places(error))
    elif error.http_status >= 500:
        note(why=error.what)


def places(error: BaseException) -> list[str]:
    """Return where an error was raised, as FILE:LINE FUNCTION, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the identifier that a client or SageMaker gave a request, a new one where there is none that is sane."""
    given = dict(headers)
    for name in ID_HEADERS:
        if SANE.fullmatch(given.get(name, b"")):
            return given[name].decode()
    return secrets.token_hex(8)


class Journal:
    """Gives each request an identifier, which its answer has too, and writes its line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = Entry(request_id(scope["headers"]), scope["method"])

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = entry.request_id
                headers.setdefault("x-content-type-options", "nosniff")
                if headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("content-security-policy", "frame-ancestors 'none'")
                    headers.setdefault("referrer-policy", "no-referrer")
            await send(message)

        token = ENTRY.set(entry)
        try:
            await self._app(scope, receive, marked)
        except BaseException as error:
            note_error(error)
            raise
        finally:
            ENTRY.reset(token)
            entry.route = getattr(scope.get("route"), "path", "other")
            entry.write()
