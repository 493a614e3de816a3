"""Log lines on stderr, of JSON or for people. Whatever logs in the process, no line holds a user's text."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from bertie.config import ServeSettings
from bertie.serve.journal import places


def configure(settings: ServeSettings) -> None:
    """Log as the settings say, in this process, whoever logs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("bertie").setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger("bertie").level))


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line tells.

    Errors are told by their kind and place: their words, and what libraries print after a message's first line, may
    repeat a text.
    """
    when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = record.getMessage().partition("\n")[0]
    told: dict[str, Any] = {"time": when, "level": record.levelname.lower(), "message": message}
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        told |= {"error": type(error).__name__, "at": places(error)}
    return told | getattr(record, "entry", {})


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(facts(record), ensure_ascii=False, default=str)


class Lines(logging.Formatter):
    """The same for people: time, level, message, and the rest as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told = facts(record)
        times = told.pop("ms", {})
        head = f"{told.pop('time')} {told.pop('level'):<7} {told.pop('message')}"
        rest = told | {f"{phase}_ms": value for phase, value in times.items()}
        return " ".join([head, *(f"{name}={value}" for name, value in rest.items())])
