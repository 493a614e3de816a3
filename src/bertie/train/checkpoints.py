"""Checkpoints to go on from after any kind of death: written whole or not at all, the last few kept, here or at a URL.

    PLACE/step-00000120/state.safetensors    weights, optimizer, random numbers
                        state.json           where training stood, and the hash of the other file

At a URL, where folders cannot be renamed, `state.json` is written last; what has none does not count.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from bertie import disk
from bertie.errors import BertieError, OutputError, UsageError, need

FORMAT = 1
AGAIN = "b"
"""Ends the name of a second checkpoint after the same update: the first stays whole until this one is."""

NAME = re.compile(rf"step-\d{{8}}{AGAIN}?")
TENSORS, FACTS = "state.safetensors", "state.json"
PROBE = "probe"


@dataclass(frozen=True)
class Checkpoint:
    """Where training stood after some updates."""

    update: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return it as one string of bytes, for a process that cannot read the place."""
        facts = json.dumps({"update": self.update, "facts": self.facts})
        content: bytes = save(self.tensors, metadata={"facts": facts})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read what `to_bytes` wrote."""
        size = int.from_bytes(content[:8], "little")  # safetensors: the length of its header, then the header, JSON
        header = json.loads(content[8 : 8 + size])["__metadata__"]
        return cls(**json.loads(header["facts"]), tensors=load(content))


class Place(Protocol):
    """Where checkpoints are kept. All raise OutputError where it cannot be reached, read or written."""

    def stage(self, name: str) -> AbstractContextManager[Path]:
        """Give an empty folder to write into; it is kept under its name, whole, if the block ends without an error."""

    def names(self) -> list[str]:
        """Return the names of what is kept."""

    def has(self, name: str) -> bool:
        """Return whether something is kept under a name."""

    def get(self, name: str) -> AbstractContextManager[Path]:
        """Give a folder as local files."""

    def remove(self, name: str) -> None:
        """Remove a folder; nothing happens if there is none."""


class Checkpoints:
    """The last few checkpoints of one training."""

    def __init__(self, place: Place, keep: int) -> None:
        self._place, self._keep = place, keep

    @classmethod
    def at(cls, where: str, keep: int) -> Checkpoints:
        """Open a folder or an fsspec URL such as `s3://bucket/folder`.

        Raises UsageError for an unknown kind of URL, OutputError where nothing answers.
        """
        return cls(Remote(where) if "://" in where else Local(Path(where)), keep)

    def check(self) -> None:
        """Raise OutputError unless checkpoints can be written here; nothing stays of the attempt."""
        with self._place.stage(PROBE) as folder:
            disk.write_text(folder / FACTS, "{}")
        self._place.remove(PROBE)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint. Raises OutputError; the older ones are still there then."""
        name = f"step-{checkpoint.update:08d}"
        with self._place.stage(name + AGAIN if self._place.has(name) else name) as folder:
            try:
                save_file(
                    {key: value.detach().contiguous() for key, value in checkpoint.tensors.items()}, folder / TENSORS
                )
            except SafetensorError as error:
                raise OutputError(f"cannot write a checkpoint: {error}.", hint="free some disk space") from error
            facts = {"format": FORMAT, "update": checkpoint.update, "sha256": disk.sha256(folder / TENSORS)}
            disk.write_text(folder / FACTS, json.dumps(facts | checkpoint.facts))

    def prune(self) -> None:
        """Remove all but the last few. Raises OutputError."""
        for old in self._numbered()[self._keep :]:
            self._place.remove(old)

    def latest(self) -> Checkpoint | None:
        """Read the newest checkpoint that is whole; a damaged one is passed over for the one before it."""
        for name in self._numbered():
            with self._place.get(name) as folder:
                found = _read(folder)
            if found is not None:
                return found
        return None

    def owner(self) -> str | None:
        """Return the identity of the job whose checkpoints are here; None where there are none.

        It is empty where none can be read: written by a newer version, or damaged.
        """
        found = self.latest()
        if found is not None:
            return str(found.facts["job"])
        return "" if self._numbered() else None

    def clear(self) -> None:
        """Remove them all."""
        for name in self._place.names():
            self._place.remove(name)

    def _numbered(self) -> list[str]:
        return sorted((name for name in self._place.names() if NAME.fullmatch(name)), reverse=True)


def _read(folder: Path) -> Checkpoint | None:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts.pop("format") != FORMAT or disk.sha256(folder / TENSORS) != facts.pop("sha256"):
            return None
        return Checkpoint(facts.pop("update"), load_file(folder / TENSORS), facts)
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


class Local:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, name: str) -> AbstractContextManager[Path]:
        """See Place."""
        for half in self.folder.glob(".step-*"):  # what a killed process had begun
            shutil.rmtree(half, ignore_errors=True)
        return disk.folder(self.folder / name, replace=True)

    def names(self) -> list[str]:
        """See Place. Half-written folders of killed processes are among them."""
        return [entry.name for entry in self.folder.iterdir() if entry.is_dir()] if self.folder.is_dir() else []

    def has(self, name: str) -> bool:
        """See Place."""
        return (self.folder / name).exists()

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """See Place."""
        yield self.folder / name

    def remove(self, name: str) -> None:
        """See Place."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


@contextmanager
def _scratch() -> Iterator[str]:
    """Give a temporary folder. Raises OutputError where there is no room for it."""
    try:
        made = tempfile.TemporaryDirectory()
    except OSError as error:
        raise OutputError(
            f"a temporary folder cannot be made: {error.strerror or error}.", hint="TMPDIR may name another place"
        ) from error
    with made as folder:
        yield folder


class Remote:
    """A folder behind an fsspec URL."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec  # noqa: PLC0415 - only for those who keep checkpoints elsewhere
        except ImportError as error:
            raise need("train", error) from error
        self._url = url
        with self._reached(f"checkpoints cannot be kept at {url}"):
            try:
                self._files, self._root = fsspec.core.url_to_fs(url)
            except (ValueError, ImportError) as error:
                raise UsageError(
                    f"checkpoints cannot be kept at {url}: {error}.",
                    expected="a folder, or a URL that fsspec knows and whose package is installed (s3fs for s3://)",
                ) from error

    @contextmanager
    def _reached(self, otherwise: str) -> Iterator[None]:
        """Raise OutputError, which says `otherwise`, for what fails: each file system raises errors of its library."""
        try:
            yield
        except BertieError:
            raise
        except Exception as error:
            raise OutputError(f"{otherwise}: {type(error).__name__}: {error}.") from error

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """See Place. FACTS is written last: a folder without it does not count."""
        with _scratch() as folder:
            yield Path(folder)
            with self._reached(f"cannot write the checkpoint {name}"):
                self.remove(name)
                self._files.makedirs(f"{self._root}/{name}", exist_ok=True)
                for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == FACTS):
                    self._files.put_file(str(file), f"{self._root}/{name}/{file.name}")

    def names(self) -> list[str]:
        """See Place."""
        with self._reached(f"cannot list the checkpoints at {self._url}"):
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return []
            return [entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._files.ls(self._root, detail=False)]

    def has(self, name: str) -> bool:
        """See Place."""
        with self._reached(f"cannot write the checkpoint {name}"):
            return bool(self._files.exists(f"{self._root}/{name}"))

    @contextmanager
    def get(self, name: str) -> Iterator[Path]:
        """See Place."""
        with _scratch() as folder:
            with self._reached(f"cannot read the checkpoint {name} at {self._url}"):
                for file in (TENSORS, FACTS):
                    if self._files.exists(f"{self._root}/{name}/{file}"):
                        self._files.get_file(f"{self._root}/{name}/{file}", f"{folder}/{file}")
            yield Path(folder)

    def remove(self, name: str) -> None:
        """See Place."""
        with self._reached(f"cannot remove the checkpoint {name} at {self._url}"):
            if self._files.exists(f"{self._root}/{name}"):
                self._files.rm(f"{self._root}/{name}", recursive=True)
