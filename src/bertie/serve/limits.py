"""The address of a server, and how long it takes its leave."""

from __future__ import annotations

import socket

from bertie.config import ServeSettings
from bertie.errors import UsageError

GRACE_SECONDS = 25
"""Time for accepted requests after SIGTERM; SageMaker kills after 30."""

BACKLOG = 2048
"""Connections that wait to be accepted, as uvicorn has it."""


def bind(settings: ServeSettings) -> socket.socket:
    """Return a socket at the wanted address. Raises UsageError where it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # Two may bind one port as long as neither listens.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}.",
            hint="choose another port with --port, or 0 for a free one",
        ) from error
    return listener


def address(listener: socket.socket, settings: ServeSettings) -> str:
    """Return where the server is reached."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
