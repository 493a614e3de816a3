"""What a file of labelled texts is read into, before anything is decided about columns, texts or labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple


class Record(NamedTuple):
    """One row: where it stands, and its values by column name (by position, as a string, without a header)."""

    line: int
    fields: dict[str, Any]


class BadRow(NamedTuple):
    """A row that does not parse, and why."""

    line: int
    why: str


@dataclass(frozen=True)
class Source:
    """An opened file: its column names in order, and its rows, to be read once."""

    columns: list[str]
    rows: Iterator[Record | BadRow]
