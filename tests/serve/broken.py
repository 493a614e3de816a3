"""Requests that no client should send, for the server's own process and for sockets."""

from __future__ import annotations

import json
import struct

SECRET = "zebrasecret"  # noqa: S105 - no password, a word
"""A word of the texts below, which no answer to a broken request and no log may hold."""

TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES"}

ROUTES = (
    "/invocations",
    "/predict",
    "/v2/models/model/infer",
    "/v2/models/model/versions/1/infer",
    "/v2/repository/index",
    "/v2/repository/models/other/load",
    "/v2/repository/models/other/unload",
    "/models",
    "/models/model",
    "/models/model/invoke",
)
KINDS = (
    "application/json",
    "application/jsonlines",
    "text/csv",
    "text/plain",
    "application/octet-stream",
    "application/json; charset=utf-16",
    "text/csv;" + "x" * 5000,
    "",
    "☕".encode().decode("latin-1"),
)
GOOD: dict[str, bytes] = {
    "/invocations": json.dumps([SECRET, "x"]).encode(),
    "/predict": json.dumps({"inputs": SECRET}).encode(),
    "/v2/models/model/infer": json.dumps({"inputs": [TENSOR | {"data": [SECRET]}]}).encode(),
}


def _within(inner: bytes) -> dict[str, bytes]:
    """Return bodies that have a value where each contract has its texts."""
    tensor = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [%s]}]}'
    return {"alone": inner, "listed": b"[%s]" % inner, "inputs": b'{"inputs": %s}' % inner, "tensor": tensor % inner}


_VALUES = {
    "broken UTF-8": b'"zebrasecret \xff\xfe"',
    "overlong UTF-8": b'"zebrasecret \xc0\xaf"',
    "a surrogate": b'"zebrasecret \\ud800"',
    "a raw surrogate": b'"zebrasecret \xed\xa0\x80"',
    "NUL": b'"zebrasecret \\u0000"',
    "a raw NUL": b'"zebrasecret \x00"',
    "deep lists": b"[" * 100_000,
    "deep lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"inputs":' * 100_000,
    "a huge number": b"1e999",
    "many digits": b"7" * 100_000,
    "not a number": b"NaN",
    "another type": b'{"zebrasecret": 1}',
    "truncated": b'"zebrasecret',
    "a bad escape": b'"zebrasecret \\x"',
}

BODIES: dict[str, bytes] = {
    f"{name}, {where}": body for name, value in _VALUES.items() for where, body in _within(value).items()
} | {
    "nothing": b"",
    "spaces": b" \r\n\t",
    "BOM": b"\xef\xbb\xbf",
    "UTF-16": '"zebrasecret"'.encode("utf-16"),
    "CRLF": b'"zebrasecret"\r\n"zebrasecret"\r\n',
    "NULs": b"\x00" * 1000,
    "duplicate keys": b'{"inputs": "zebrasecret", "inputs": 5, "text": "zebrasecret", "text": {}}',
    "unbalanced quotes": b'text\n"zebrasecret',
    "a quote in the midst": b'text\nzebra"secret,"zebrasecret"x\n',
    "a long field": b"text\n" + b"zebrasecret " * 20_000 + b",\n",
    "a surrogate as id": json.dumps({"id": "\ud800", "inputs": [TENSOR | {"data": ["x"]}]}).encode(),
    "an id that is no string": json.dumps({"id": [SECRET], "inputs": [TENSOR | {"data": ["x"]}]}).encode(),
    "many outputs": json.dumps({"inputs": [TENSOR | {"data": ["x"]}], "outputs": [{"name": []}] * 1000}).encode(),
    "top_k of many digits": b'{"inputs": "zebrasecret", "parameters": {"top_k": %s}}' % (b"7" * 5000),
    "parameters that are no object": b'{"inputs": "zebrasecret", "parameters": ["top_k"]}',
    "a path": json.dumps({"model_name": "../../etc", "url": "/etc/passwd\x00"}).encode(),
}


def binary(head: dict[str, object], rest: bytes) -> tuple[bytes, str]:
    """Return a body with binary tensors, and the length of its JSON."""
    raw = json.dumps(head).encode()
    return raw + rest, str(len(raw))


def _sized(size: object, rest: bytes, length: str = "") -> tuple[bytes, str]:
    body, usual = binary({"inputs": [TENSOR | {"parameters": {"binary_data_size": size}}]}, rest)
    return body, length or usual


_ONE = struct.pack("<I", len(SECRET)) + SECRET.encode()
BINARY: dict[str, tuple[bytes, str]] = {
    "one byte too few": _sized(len(_ONE), _ONE[:-1]),
    "a size beyond the body": _sized(10**9, _ONE),
    "a negative size": _sized(-1, _ONE),
    "a size that is no number": _sized("15", _ONE),
    "a string beyond the tensor": _sized(15, struct.pack("<I", 2**32 - 1) + SECRET.encode()),
    "broken UTF-8": _sized(7, struct.pack("<I", 3) + b"\xff\xfe\xfd"),
    "a length beyond the body": _sized(len(_ONE), _ONE, "999999"),
    "a length of many digits": _sized(len(_ONE), _ONE, "7" * 5000),
    "a negative length": _sized(len(_ONE), _ONE, "-1"),
    "a length that is no number": _sized(len(_ONE), _ONE, "0x10"),
    "no length at all": _sized(len(_ONE), _ONE, "0"),
}
