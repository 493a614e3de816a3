"""What stands around the application in production: keys, TLS, limits of connections, log lines, traces, CORS."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from bertie.config import ServeSettings
from bertie.serve import traces
from bertie.serve.connection import limited
from bertie.serve.journal import Journal
from bertie.serve.keys import Gate, Keys
from bertie.serve.memory import Memory
from bertie.serve.tls import Certificate

REQUEST_HEADERS = ["accept", "authorization", "content-type", "traceparent", "x-api-key", "x-request-id"]
"""What pages of other origins may send."""

ANSWER_HEADERS = ["retry-after", "server-timing", "x-model", "x-request-id"]
"""What they may read."""

OTHER_FILES = 256
"""Files that a server has open besides its connections, with room to spare."""

LOG = logging.getLogger("bertie")


def guard(app: FastAPI, settings: ServeSettings) -> None:
    """Ask for a key, where there are keys. What is added to the application later stands around it."""
    keys = Keys(settings.api_keys)
    if keys:
        app.add_middleware(Gate, keys=keys)
        plain = app.openapi

        def described() -> dict[str, Any]:
            schema = plain()
            schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            return schema | {"security": [{"key": []}]}

        app.openapi = described  # type: ignore[method-assign]  # as FastAPI's own documentation does it


def enclose(app: FastAPI, settings: ServeSettings) -> None:
    """Answer pages of the origins that may ask, trace, and write a log line for each request."""
    if settings.cors_origins:
        # Stands before the gate: a browser asks whether it may send a key without sending it.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins.split(","),
            allow_methods=["GET", "POST"],
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
        )
    tracer = traces.tracer(settings)
    if tracer is not None:
        app.add_middleware(traces.Traced, tracer=tracer)
    app.add_middleware(Journal)


def uvicorn_options(
    settings: ServeSettings, memory: Memory, count: Callable[[str, int], None], certified: Certificate | None
) -> dict[str, Any]:
    """Return what uvicorn needs to be told for all that; `count` is told what is refused before its path is read."""
    http = limited(settings, memory, count)
    options: dict[str, Any] = {"http": http, "ws": "none", "access_log": False, "log_config": None}
    if certified is not None:

        async def refresh() -> None:
            certified.refresh()

        options |= {"callback_notify": refresh, "timeout_notify": 1}
    return options


def allow_connections(most: int) -> None:
    """Raise the limit of open files, where the system lets us, so that no connection fails for it."""
    now, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + OTHER_FILES
    if now == resource.RLIM_INFINITY or now >= wanted:
        return
    able = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, able), highest))
    if able < wanted:
        LOG.warning("only %d files can be open, too few for %d connections; see ulimit -n", able, most)
