"""The user's files, read, checked as a whole and split, before anything is trained or written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertie.config import DataSettings, SplitSettings
from bertie.data.check import Report, check, describe, drop
from bertie.data.examples import Examples, read
from bertie.data.split import split
from bertie.errors import DataError
from bertie.scores import Kind
from bertie.talk import Talk


@dataclass(frozen=True)
class Splits:
    """Training, validation and test rows. Without test rows the validation rows measure the model, and say so."""

    train: Examples
    valid: Examples
    test: Examples | None
    report: Report
    dropped: dict[str, int]

    @property
    def measured(self) -> Examples:
        """The rows that the finished model is measured on."""
        return self.valid if self.test is None else self.test

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels to learn."""
        return self.train.label_names()

    @property
    def fingerprint(self) -> str:
        """A sha256 over all texts and labels, in order."""
        digest = hashlib.sha256()
        for name, part in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            digest.update(name.encode())
            for row in zip(part.texts, part.labels, strict=True) if part is not None else ():
                digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def read_files(paths: Sequence[Path], settings: DataSettings) -> tuple[list[Examples], dict[str, int]]:
    """Read files, training rows first, and leave out what the user said to drop.

    A label with one row is left out of the training rows alone: in the other files one row is enough to be measured.
    """
    files: list[Examples] = []
    dropped: Counter[str] = Counter()
    kinds = settings.drop
    for path in paths:
        examples, counts = drop(read(path, settings), kinds)
        files.append(examples)
        dropped.update(counts)
        kinds = ",".join(kind for kind in counts if kind != "label-once")
    return files, dict(dropped)


def load_splits(
    data: Path, valid: Path | None, test: Path | None, settings: DataSettings, split_settings: SplitSettings, talk: Talk
) -> Splits:
    """Read, check and split. Raises DataError where something must be mended before training; warns of the rest.

    From one file, validation and test rows are cut; with `valid` but no `test`, none are cut from the training rows,
    and the validation rows measure the model.
    """
    paths = [path for path in (data, valid, test) if path is not None]
    files, dropped = read_files(paths, settings)
    report = check(files)
    report.raise_errors()
    for problem in report.problems:
        talk.warn(describe(problem))
    for kind, count in dropped.items():
        talk.say(f"left out {count} rows: {kind}")
    train, others = files[0], files[1:]
    for part in others:
        if not len(part):
            raise DataError(f"{part.name} has no rows.", expected="a header and at least one row")
    given = dict(zip([path for path in (valid, test) if path is not None], others, strict=True))
    held_valid, held_test = (given.get(path) if path is not None else None for path in (valid, test))
    if held_valid is None and held_test is None:
        shares = (split_settings.valid_share, split_settings.test_share)
        train, held_valid, held_test = split(train, shares, split_settings.seed)
    elif held_valid is None:
        train, held_valid = split(train, (split_settings.valid_share,), split_settings.seed)
    splits = Splits(train, _filled(held_valid, data), held_test, report, dropped)
    for part in (splits.valid, splits.measured):
        same_shape(part, pairs=train.pairs)
        same_kind(part, train.kind)
        part.targets(splits.labels)  # raises for a label that training has never seen
    return splits


def _filled(valid: Examples | None, data: Path) -> Examples:
    if valid is None or not len(valid):
        raise DataError(
            f"{data} has too few rows to cut validation rows from.", hint="add rows, or give a file with --valid"
        )
    return valid


def same_kind(examples: Examples, kind: Kind) -> None:
    """Raise DataError if rows have several labels where one is needed."""
    if examples.kind == "multi-label" and kind == "single-label":
        row = next((row for row, labels in enumerate(examples.labels) if len(labels) != 1), 0)
        raise DataError(
            f"{examples.name}, line {examples.lines[row]}: the labels {list(examples.labels[row])} are a list, "
            "but one label for each text is needed here.",
            hint="write one label, or train on lists of labels",
        )


def same_shape(examples: Examples, *, pairs: bool) -> None:
    """Raise DataError if the rows are pairs where single texts are needed, or the other way round."""
    if examples.pairs != pairs:
        found, needed = ("pairs of texts", "single texts") if examples.pairs else ("single texts", "pairs of texts")
        raise DataError(
            f"{examples.name} holds {found}, but {needed} are needed here.",
            hint="name the second column with --pair-column" if pairs else "rename or remove the second text column",
        )
