"""Many texts in the memory that their file takes.

A Python string has a header of 50 bytes or so, and one emoji in it makes all its characters four bytes wide. A million
texts as one buffer of UTF-8 take what they take on disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from bertie.tokens import Text


class Texts(Sequence[Text]):
    """A sequence of texts, or of pairs, that makes each string when it is asked for."""

    def __init__(self, *, pairs: bool = False) -> None:
        self._parts = 2 if pairs else 1
        self._buffer = bytearray()
        self._ends = array("q", [0])  # [parts + 1], where in the buffer each part ends and the next begins
        self._rows: NDArray[np.int64] | None = None  # which of the texts are shown; all of them if None

    def append(self, text: Text) -> None:
        """Add a text; a pair where these are pairs. Raises UnicodeEncodeError for a lone surrogate."""
        for part in (text,) if isinstance(text, str) else text:
            self._buffer += part.encode()
            self._ends.append(len(self._buffer))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Texts:
        """Return some of the texts, in the order of `rows`; they share the buffer of these, so nothing is copied."""
        taken = Texts(pairs=self._parts == 2)
        taken._buffer, taken._ends = self._buffer, self._ends
        places = np.asarray(rows, dtype=np.int64)
        taken._rows = places if self._rows is None else self._rows[places]
        return taken

    def __len__(self) -> int:
        return (len(self._ends) - 1) // self._parts if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Text: ...
    @overload
    def __getitem__(self, place: slice) -> list[Text]: ...
    def __getitem__(self, place: int | slice) -> Text | list[Text]:
        # A range knows what Python's rules for slices, negative places and places beyond the end are.
        found = range(len(self))[place]
        return self._at(found) if isinstance(found, int) else [self._at(row) for row in found]

    def __iter__(self) -> Iterator[Text]:
        return (self._at(row) for row in range(len(self)))

    def _at(self, row: int) -> Text:
        first = self._parts * (row if self._rows is None else int(self._rows[row]))
        return self._part(first) if self._parts == 1 else (self._part(first), self._part(first + 1))

    def _part(self, number: int) -> str:
        return self._buffer[self._ends[number] : self._ends[number + 1]].decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Texts, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # how Python marks what has no hash; mypy knows no such mark

    def __repr__(self) -> str:
        return repr(list(self))
