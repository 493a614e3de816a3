"""Records become examples: texts (or pairs of them) with their labels, and the place each came from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.config import DataSettings
from bertie.data.records import BadRow, Record
from bertie.data.sources import open_source
from bertie.data.texts import Texts
from bertie.disk import write_lines
from bertie.errors import ColumnMissing, DataError, DataUnreadable, nearest
from bertie.scores import Kind
from bertie.tokens import Text

TEXT_NAMES = ("text", "sentence", "message", "content", "body", "review", "comment", "inputs")
PAIR_NAMES = ("text_pair", "sentence2")
LABEL_NAMES = ("label", "labels", "class", "category", "target")

NO_NAMES = (dict, list, tuple, set, frozenset, bytes)
"""Types of values that are no label, whatever they hold."""


@dataclass
class Examples:
    """Labelled texts in the order of the file."""

    name: str
    texts: Sequence[Text] = field(default_factory=list)
    labels: list[tuple[str, ...]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    kind: Kind = "single-label"
    columns: dict[str, str] = field(default_factory=dict)
    labelled: bool = True

    @property
    def pairs(self) -> bool:
        """Whether the texts are pairs."""
        return bool(self.texts) and isinstance(self.texts[0], tuple)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return some of the examples, in the order of `rows`."""
        return Examples(
            self.name,
            self.texts.take(rows) if isinstance(self.texts, Texts) else [self.texts[row] for row in rows],
            [self.labels[row] for row in rows],
            [self.lines[row] for row in rows],
            kind=self.kind,
            columns=self.columns,
            labelled=self.labelled,
        )

    def label_names(self) -> tuple[str, ...]:
        """Return the labels that occur: numbers in their order, names in alphabetical order."""
        names = {name for labels in self.labels for name in labels}
        # Only ASCII: int() knows neither '²', which is a digit too, nor numbers of thousands of digits.
        numbers = {name: int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 20}
        return tuple(sorted(names, key=lambda name: (name not in numbers, numbers.get(name, 0), name)))

    def targets(self, labels: Sequence[str]) -> NDArray[Any]:
        """Return which labels are right, [rows, labels] of 0 and 1, a byte each.

        Raises DataError that names file, line and value of a label the model does not know.
        """
        index = {name: place for place, name in enumerate(labels)}
        targets = np.zeros((len(self), len(labels)), dtype=np.int8)
        for row, names in enumerate(self.labels):
            for name in names:
                if name not in index:
                    raise DataError(
                        f"{self.name}, line {self.lines[row]}: the model does not know the label {name!r}.",
                        expected=f"one of {', '.join(labels)}",
                        hint=nearest(name, labels) or "correct the file, or train on data that has this label",
                    )
                targets[row, index[name]] = 1
        return targets

    def write(self, path: Path) -> None:
        """Write the examples as JSON Lines that `read` gives back as they are."""
        write_lines(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows()))

    def _rows(self) -> Iterator[dict[str, Any]]:
        for text, labels in zip(self.texts, self.labels, strict=True):
            row: dict[str, Any] = dict(
                zip(("text", "text_pair"), (text,) if isinstance(text, str) else text, strict=False)
            )
            if self.labelled:
                row["label"] = labels[0] if self.kind == "single-label" else list(labels)
            yield row

    def __len__(self) -> int:
        return len(self.texts)


def read(path: Path, settings: DataSettings, *, labelled: bool = True) -> Examples:
    """Read a whole file. Rows that do not parse are collected in `bad`, to be judged by the check.

    If not `labelled`, no column of labels is looked for, and the rows have none. Raises DataNotFound, DataUnreadable or
    ColumnMissing.
    """
    source = open_source(path, settings)
    examples = Examples(str(path), labelled=labelled)
    if not source.columns:
        bad = next((row for row in source.rows if isinstance(row, BadRow)), None)
        why = f"line {bad.line}: {bad.why}" if bad else "it is empty"
        raise DataError(f"{path} has no rows: {why}.", expected="a header and at least one row")
    columns = _Columns.choose(source.columns, settings, path, labelled=labelled)
    examples.columns = columns.named()
    texts = Texts(pairs=columns.pair is not None)
    # Rows with the same labels share one tuple: a million of them would take as much memory as the texts' tokens.
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in source.rows:
        if isinstance(row, BadRow):
            examples.bad.append(row)
            continue
        try:
            text, labels = columns.text_of(row), columns.labels_of(row)
        except ValueError as error:
            examples.bad.append(BadRow(row.line, str(error)))
            continue
        if columns.label is not None and (isinstance(row.fields.get(columns.label), list) or settings.label_separator):
            examples.kind = "multi-label"
        texts.append(text)
        examples.labels.append(known.setdefault(labels, labels))
        examples.lines.append(row.line)
    examples.texts = texts
    return examples


@dataclass(frozen=True)
class _Columns:
    text: str
    label: str | None
    pair: str | None
    separator: str | None

    @classmethod
    def choose(cls, known: list[str], settings: DataSettings, path: Path, *, labelled: bool) -> _Columns:
        return cls(
            text=_column(known, "text", settings.text_column, TEXT_NAMES, path),
            label=_column(known, "label", settings.label_column, LABEL_NAMES, path) if labelled else None,
            pair=_optional(known, settings.pair_column, path),
            separator=settings.label_separator,
        )

    def named(self) -> dict[str, str]:
        names = {"text": self.text, "label": self.label, "pair": self.pair}
        return {role: name for role, name in names.items() if name is not None}

    def text_of(self, row: Record) -> Text:
        text = _string(row, self.text)
        return text if self.pair is None else (text, _string(row, self.pair))

    def labels_of(self, row: Record) -> tuple[str, ...]:
        if self.label is None:
            return ()
        value = row.fields.get(self.label)
        if isinstance(value, list):
            return tuple(dict.fromkeys(label_name(item) for item in value))
        name = label_name(value)
        if self.separator is None:
            return (name,)
        return tuple(dict.fromkeys(sys.intern(part.strip()) for part in name.split(self.separator) if part.strip()))


def _column(known: list[str], role: str, wanted: str | None, usual: tuple[str, ...], path: Path) -> str:
    if wanted is None:
        found = next((name for usual_name in usual for name in known if name.lower() == usual_name), None)
        if found is None:
            raise ColumnMissing(
                f"{path}: cannot tell which column holds the {role}.",
                expected=f"a column named {usual[0]!r}; this file has {', '.join(known)}",
                hint=f"name it with --{role}-column",
            )
        return _unique(known, role, found, path)
    positions = {str(position): name for position, name in enumerate(known)}
    if wanted in known or wanted in positions:
        return _unique(known, role, wanted if wanted in known else positions[wanted], path)
    raise ColumnMissing(
        f"{path}: there is no {role} column {wanted!r}.",
        expected=f"one of {', '.join(known)}",
        hint=nearest(wanted, known) or f"name it with --{role}-column",
    )


def _unique(known: list[str], role: str, name: str, path: Path) -> str:
    if known.count(name) > 1:
        raise DataUnreadable(
            f"{path}: {known.count(name)} columns are named {name!r}.",
            expected=f"one column of that name for the {role}",
            hint="rename the others",
        )
    return name


def _optional(known: list[str], wanted: str | None, path: Path) -> str | None:
    if wanted is not None:
        return _column(known, "pair", wanted, PAIR_NAMES, path)
    found = next((name for name in known if name.lower() in PAIR_NAMES), None)
    return None if found is None else _unique(known, "pair", found, path)


def _string(row: Record, column: str) -> str:
    value = row.fields.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - the row is wrong, not the caller
            f"the text in column {column!r} is {type(value).__name__}, not a string"
        )
    return _unbroken(value)


def _unbroken(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} of {text[:20]!r} is half a character (a lone surrogate)") from None
    return text


def label_name(value: object) -> str:
    """Return a label's name; numbers and truth values of JSON and Parquet become their usual spelling."""
    if value is None:
        return ""
    if isinstance(value, NO_NAMES) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"the label {value!r} is no name or whole number")
    if isinstance(value, float):
        value = int(value)
    return sys.intern(_unbroken(str(value)).strip())


def from_lists(texts: Sequence[Text], labels: Sequence[Any], name: str = "the data") -> Examples:
    """Return examples from Python sequences; a label that is a list, tuple or set makes the task multi-label.

    Raises DataError for a label that is no name or whole number.
    """
    lists = (list, tuple, set, frozenset)
    several = any(isinstance(label, lists) for label in labels)
    rows: list[tuple[str, ...]] = []
    for row, label in enumerate(labels):
        try:
            rows.append(tuple(dict.fromkeys(map(label_name, label if isinstance(label, lists) else (label,)))))
        except ValueError as error:
            raise DataError(f"{name}, row {row}: {error}.") from None
    kind: Kind = "multi-label" if several else "single-label"
    return Examples(name, list(texts), rows, list(range(len(rows))), kind=kind)
