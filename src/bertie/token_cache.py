"""The tokens of large sets are kept on disk, and found again by a hash of all that they depend on.

An entry is a folder of `.npy` files and a list of their hashes. It appears whole or not at all, and is compared with
its hashes before it is used: a damaged one is made anew. Tokens can be turned back into texts, so their owner alone can
read them. A cache that cannot be used costs time and a warning, never a training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray

from bertie import disk
from bertie.errors import OutputError
from bertie.talk import Talk
from bertie.tokens import Text, TextEncoder, Tokens
from bertie.version import __version__

FORMAT = 1
"""Raised when TextEncoder makes other tokens of the same texts, or an entry looks different on disk."""

FEWEST_TEXTS = 20_000
"""Fewer are tokenized in about a second, so they are not kept."""

MOST_BYTES = 4 * 1024**3
"""All entries together; the ones that were not used for the longest time go first."""

STALE_SECONDS = 24 * 3600
"""What a process that was killed left half written goes after this time."""

HASHED_AT_ONCE = 4096
HASHES = "hashes.json"


@dataclass
class TokenCache:
    """A folder of entries. Several processes may use it at once."""

    folder: Path
    talk: Talk
    fewest_texts: int = FEWEST_TEXTS
    most_bytes: int = MOST_BYTES
    usable: bool = True
    """False after something could not be written, so that there is one warning, and no second try."""

    @classmethod
    def usual(cls, talk: Talk, environment: Mapping[str, str] | None = None) -> Self | None:
        """Return the cache in the usual place, see disk.cache; None without a home."""
        folder = disk.cache("tokens", environment)
        return None if folder is None else cls(folder, talk)

    def load(self, key: str) -> Tokens | None:
        """Return the tokens of a key, mapped from disk; None where they are not there or not whole."""
        entry = self.folder / key
        arrays: dict[str, Any] = {}
        try:
            hashes = json.loads((entry / HASHES).read_text(encoding="utf-8"))
            for name in _names():
                if disk.sha256(entry / f"{name}.npy") != hashes[name]:
                    return None
                arrays[name] = np.asarray(np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            if hashes["key"] != key:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with contextlib.suppress(OSError):  # a cache that may only be read is still a cache
            os.utime(entry)
        return Tokens(**arrays)

    def store(self, key: str, tokens: Tokens) -> None:
        """Keep tokens, and let the oldest entries go for them. Warns, once, where they cannot be written."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(tokens, name) for name in _names()}
        size = sum(array.nbytes for array in arrays.values())
        if not self.usable or size > self.most_bytes:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self._make_room(size)
            if (self.folder / key).is_file():  # no entry, and nobody's but the cache's
                (self.folder / key).unlink()
            with disk.folder(self.folder / key, replace=True, private=True) as stage:
                for name, array in arrays.items():
                    _save(stage / f"{name}.npy", array)
                hashes = {name: disk.sha256(stage / f"{name}.npy") for name in arrays}
                (stage / HASHES).write_text(json.dumps(hashes | {"key": key}), encoding="utf-8")
        except (OSError, OutputError) as error:
            if self.load(key) is None:  # else another process wrote the same at the same time
                self.usable = False
                self.talk.warn(f"the tokens are not kept for the next training: {error}")

    def _make_room(self, size: int) -> None:
        """Remove entries until another of `size` bytes fits, and what was left half written."""
        found = sorted(self._entries(), key=lambda entry: entry[0])
        total = size + sum(bytes_of for _, bytes_of, _ in found)
        for changed, bytes_of, path in found:
            half = path.name.startswith(".")
            if (not half and total > self.most_bytes) or (half and changed < time.time() - STALE_SECONDS):
                shutil.rmtree(path, ignore_errors=True)
                total -= bytes_of

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each entry was last used, its bytes, and its folder."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it
                yield path.stat().st_mtime, sum(file.stat().st_size for file in path.rglob("*")), path


def encoded(encoder: TextEncoder, texts: Sequence[Text], cache: TokenCache | None) -> Tokens:
    """Return the tokens of the texts: those kept from last time if nothing has changed, else made now and kept.

    Raises RequestInvalid for a text that is no valid Unicode.
    """
    if cache is None or len(texts) < cache.fewest_texts:
        return encoder.encode(texts)
    key = key_of(encoder, texts)
    found = cache.load(key)
    if found is not None:
        cache.talk.say(f"the tokens of {len(texts)} texts are those kept in {cache.folder}")
        return found
    tokens = encoder.encode(texts)
    cache.store(key, tokens)
    return tokens


def key_of(encoder: TextEncoder, texts: Sequence[Text]) -> str:
    """Return a sha256 over the texts and all else that their tokens depend on.

    The number and the lengths of strings are hashed before their bytes, so that no two lists of texts look the same.
    """
    depends_on = [FORMAT, __version__, tokenizers.__version__, encoder.identity, len(texts)]
    digest = hashlib.sha256(json.dumps(depends_on).encode() + b"\0")
    for start in range(0, len(texts), HASHED_AT_ONCE):
        rows = [(text,) if isinstance(text, str) else text for text in texts[start : start + HASHED_AT_ONCE]]
        # Half characters are told by the encoder, in words.
        parts = [part.encode("utf-8", "surrogatepass") for row in rows for part in row]
        digest.update(bytes(map(len, rows)))
        digest.update(np.array([len(part) for part in parts], dtype=np.int64).tobytes())
        digest.update(b"".join(parts))
    return digest.hexdigest()


def _names() -> list[str]:
    return [field.name for field in fields(Tokens)]


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write a `.npy` file through Python's own file, which tells a full disk; numpy's `tofile` can miss its end."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
