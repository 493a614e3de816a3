"""What the processes say to each other: a JSON object and some bytes, each after its length."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from typing import Any

import bertie.errors
from bertie.errors import BertieError

_LENGTHS = struct.Struct("<II")


def pack(head: dict[str, Any], blob: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    raw = json.dumps(head).encode()
    return _LENGTHS.pack(len(raw), len(blob)) + raw + blob


def send(writer: asyncio.StreamWriter, head: dict[str, Any], blob: bytes = b"") -> bool:
    """Send a frame, or return False: the other side has ended, even if the reader has not come to notice it."""
    if writer.transport.is_closing():  # uvloop raises RuntimeError here, where asyncio would drop the bytes
        return False
    writer.write(pack(head, blob))
    return True


async def read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes] | None:
    """Return the next frame; nothing where the other side has ended."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        head, blob = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        return json.loads(await reader.readexactly(head)), await reader.readexactly(blob)
    return None


def error_to(error: BaseException) -> dict[str, str]:
    """Return an error as JSON; one that is not ours says nothing of the insides."""
    if not isinstance(error, BertieError):
        error = BertieError("the server failed on this request.")
    return {"kind": type(error).__name__, "what": error.what, "expected": error.expected, "hint": error.hint}


def error_from(told: dict[str, str]) -> BertieError:
    """Return the error that the other process raised."""
    kind = getattr(bertie.errors, told["kind"], BertieError)
    if not (isinstance(kind, type) and issubclass(kind, BertieError)):
        kind = BertieError
    return kind(told["what"], expected=told["expected"], hint=told["hint"])
