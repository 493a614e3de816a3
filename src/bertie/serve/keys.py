"""API keys: who may ask. Only their digests stay in memory, and none is ever printed."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from bertie.errors import KeyRefused, UsageError
from bertie.serve.journal import note_key

VARIABLE = "BERTIE_API_KEYS"
"""Keys in the environment, with commas or spaces between. A flag of their own would show in the list of processes."""

OPEN = frozenset({"/ping", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json"})
"""What needs no key: probes, the page, which asks for one, and what describes any server of this kind, as links in a
browser must. Anything new does until it is added here.

/metrics does: it tells which labels users' texts get. Prometheus sends a key with `authorization`.
"""

PAGE = re.compile(r"/page/[a-z]+\.[a-z]+|/static-offline-docs/[a-z-]+\.[a-z]+")
"""The page's own files, and those of /docs."""

LINE = re.compile(r"(?:(?P<name>[\w .-]{1,64}):\s*)?(?P<key>[A-Za-z0-9._~+/=-]{16,})")
"""A key has the letters of RFC 6750; 16 of them at least, so that it cannot be guessed."""

LOOK_SECONDS = 1.0
"""How often to look whether the file has changed."""

LOG = logging.getLogger("bertie")


class Keys:
    """The keys of a server: those of the environment, and those of a file, read again when it has changed."""

    def __init__(
        self,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read them. Raises UsageError where the file or the variable is there and holds no key, or something else."""
        told = (os.environ if environment is None else environment).get(VARIABLE)
        self._own = [] if told is None else _digests(re.split(r"[,\n]", told), VARIABLE)
        self._file, self._clock, self._looked = file, clock, clock()
        self._stamp = _stamp(file)
        self._known = self._own + self._read()

    def __bool__(self) -> bool:
        return bool(self._known)

    def owner(self, key: bytes) -> str | None:
        """Return the name of a key, its number where it has none, or None where it is not known.

        Takes as long for any key of a length: all digests are compared, whole.
        """
        self._look()
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._known:
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _look(self) -> None:
        """Read the file again if it has changed. Where that fails, the keys stay as they were."""
        now = self._clock()
        if self._file is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = self._own + self._read()
        except UsageError as error:
            LOG.error("the API keys stay as they were: %s", error.what)  # noqa: TRY400 - the sentence says it all
        else:
            LOG.info("read the API keys again: there are %d", len(self._known))

    def _read(self) -> list[tuple[str, bytes]]:
        if self._file is None:
            return []
        # Its path is not repeated: somebody may have put a key in its place.
        try:
            text = self._file.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot read the file of API keys: {error.strerror}.", hint="check --api-keys") from None
        except UnicodeDecodeError:
            raise UsageError("the file of API keys is not UTF-8.", hint="check --api-keys") from None
        return _digests(text.splitlines(), "the file of API keys")


def _digests(lines: Iterable[str], source: str) -> list[tuple[str, bytes]]:
    found = []
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = LINE.fullmatch(stripped)
        if match is None:
            raise UsageError(
                f"{source}, line {number}: that is no key.",
                expected="KEY or NAME: KEY; a key has 16 or more letters, digits and -._~+/=",
                hint="openssl rand -hex 32 makes one",
            )
        found.append((match["name"] or str(number), hashlib.sha256(match["key"].encode()).digest()))
    if not found:
        raise UsageError(f"{source}: there is no key.", hint="openssl rand -hex 32 makes one")
    return found


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """Return what changes when a file does."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if status else None


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the key that a request gives in `Authorization: Bearer` or in `X-API-Key`; nothing if it gives none."""
    given = dict(headers)
    scheme, _, token = given.get(b"authorization", b"").partition(b" ")
    # A gateway may have signed the request with an Authorization of its own, which is none of ours.
    return token.strip() if scheme.lower() == b"bearer" else given.get(b"x-api-key", b"")


def admit(keys: Keys, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Let a request pass. Raises KeyRefused."""
    key = presented(headers)
    owner = keys.owner(key)
    if owner is None:
        raise KeyRefused(
            "the API key is not known here." if key else "the request has no API key.",
            expected="Authorization: Bearer KEY, or X-API-Key: KEY",
        )
    note_key(owner)


class Gate:
    """Lets requests pass that have a key, or need none; raises KeyRefused for others."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "lifespan":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path not in OPEN and not PAGE.fullmatch(path):
                admit(self._keys, scope["headers"])
        await self._app(scope, receive, send)
