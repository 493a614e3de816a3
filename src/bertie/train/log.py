"""`log.jsonl`: a line for each look at the loss, and one for each pass."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from bertie import disk


class Log:
    """Writes lines, each at once, so that a plot can follow."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def write(self, line: dict[str, float]) -> None:
        """Add a line. One that cannot be written, on a full disk, is left out: it is not worth the training."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()


@contextlib.contextmanager
def open_log(path: Path, done: int, passes: int, *, writes: bool) -> Iterator[Log]:
    """Open a log, without the lines of updates after `done` and of passes after `passes`, which are to be done again.

    One that `writes` not, drops what it is given.

    A training that goes on thus has the log of one that was never interrupted.
    """
    if not writes:
        yield Log(None)
        return
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        disk.write_text(path, "".join(line for line in lines if _is_done(line, done, passes)))
    with contextlib.ExitStack() as stack:
        file = path.open("a", encoding="utf-8")
        stack.callback(_close, file)
        yield Log(file)


def _close(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # what could not be written before cannot be written now
        file.close()


def _is_done(line: str, done: int, passes: int) -> bool:
    """Return whether what a line tells of will not come again; a line that was cut off belongs to nothing."""
    try:
        facts = json.loads(line)
    except ValueError:
        return False
    return bool(facts.get("update", facts.get("updates", math.inf)) <= done and facts.get("pass", 0) <= passes)
