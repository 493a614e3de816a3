"""Files and folders that appear whole or not at all.

Each is written beside its place under a temporary name, flushed to the disk, then renamed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bertie.errors import OutputError


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache(kind: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder for one kind of things that can be made again; None without a home.

    It is in `$BERTIE_CACHE`, `$XDG_CACHE_HOME/bertie` or `~/.cache/bertie`.
    """
    known = os.environ if environment is None else environment
    if known.get("BERTIE_CACHE"):
        return Path(known["BERTIE_CACHE"]) / kind
    home = Path(known.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG specification: a path that is not absolute is to be ignored.
        return (home if home.is_absolute() else Path.home() / ".cache") / "bertie" / kind
    except RuntimeError:
        return None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises OutputError if it cannot be written."""
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each with its own end, one after the other: the file never stands in memory as a whole.

    It appears whole or not at all. Raises OutputError if it cannot be written.
    """
    try:
        _write_lines(path, lines)
    except OSError as error:
        raise unwritten(path, error) from error


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp makes it private; results are read by other users of the machine
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def folder(path: Path, *, replace: bool = False, private: bool = False) -> Iterator[Path]:
    """Give an empty folder to write into; it takes the place of `path` only if the block ends without an error.

    A private one, and the files in it, can be read by their owner alone. Raises OutputError if `path` holds something
    already and `replace` is false, if it is a file, or cannot be written.
    """
    refuse_filled(path, replace=replace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent}: {error.strerror or error}.") from error
    try:
        yield stage
        stage.chmod(0o700 if private else 0o755)
        for file in stage.rglob("*"):
            if private:
                file.chmod(0o700 if file.is_dir() else 0o600)
            _flush(file)
        refuse_filled(path, replace=replace)  # again: somebody else may have written there in the meantime
        _swap(stage, path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def refuse_filled(path: Path, *, replace: bool = False) -> None:
    """Raise OutputError if something is there other than an empty folder, or than a folder if that may be replaced."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} exists already and is not a folder.", hint="choose another place")
    if not replace and path.exists() and any(path.iterdir()):
        raise OutputError(
            f"{path} exists already and is not empty.",
            hint="choose another place, or add --overwrite to replace it",
        )


def refuse_others(path: Path, mark: str, kind: str, *, replace: bool) -> None:
    """Raise OutputError as `refuse_filled` does, and for a filled folder that is no `kind`: without the file `mark`."""
    refuse_filled(path, replace=replace)
    if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file():
        raise OutputError(
            f"{path} is not a {kind}, so --overwrite does not replace it.", hint="choose another place with --out"
        )


def unwritten(path: Path, error: OSError) -> OutputError:
    """Return the error that says that a path could not be written, and what helps."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return OutputError(f"cannot write {path}: {error.strerror or error}.", hint="free some disk space" if full else "")


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _swap(stage: Path, path: Path) -> None:
    """Put `stage` in the place of `path`; the old content goes only after the new is there, or comes back."""
    if not path.exists():
        stage.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    kept = old / "kept"
    try:
        path.rename(kept)
        stage.rename(path)
    except BaseException:
        with suppress(OSError):  # another process has put something there in the meantime
            if kept.exists():
                kept.rename(path)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
