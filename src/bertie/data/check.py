"""The whole data is checked before any training: what is wrong, how often, and in which rows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from ftfy.badness import is_bad

from bertie.data.examples import Examples
from bertie.errors import DataError, UsageError, nearest
from bertie.tokens import Text

ROWS_SHOWN = 20
"""Row numbers listed of each problem; the count is always of all."""

LABELS_SHOWN = 5
"""Labels named in one message; a wrong column can have as many as rows."""

IMBALANCE = 20
"""A label this many times rarer than the commonest is worth a warning."""

DROPPABLE = ("bad-row", "empty-text", "empty-label", "label-once")


@dataclass(frozen=True)
class Problem:
    """One kind of problem: all its rows counted, the first of them named."""

    kind: str
    severity: Literal["error", "warning"]
    file: str
    count: int
    rows: list[int]
    message: str


@dataclass(frozen=True)
class Report:
    """What the check found, ready to be printed or written as JSON."""

    rows: int
    labels: dict[str, int]
    kind: str
    pairs: bool
    words: dict[str, int]
    problems: list[Problem] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop a training."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def raise_errors(self) -> None:
        """Raise DataError that names every problem which must be mended before training."""
        if not self.errors:
            return
        droppable = [problem.kind for problem in self.errors if problem.kind in DROPPABLE]
        hint = "correct the file"
        if droppable:
            hint += f", or leave these rows out with --drop {','.join(dict.fromkeys(droppable))}"
        raise DataError("\n".join(describe(problem) for problem in self.errors), hint=hint)


def describe(problem: Problem) -> str:
    """Return one line for a person: file, lines, what is wrong."""
    shown = ", ".join(map(str, problem.rows[:5])) + (", ..." if problem.count > 5 else "")
    lines = f", line{'s' if problem.count > 1 else ''} {shown}" if problem.rows else ""
    return f"{problem.file}{lines}: {problem.message}"


def key(text: Text) -> int:
    """Return a number that is the same for texts which differ in case and white space alone."""
    parts = (text,) if isinstance(text, str) else text
    return hash(tuple(" ".join(part.casefold().split()) for part in parts))


def check(files: Sequence[Examples]) -> Report:
    """Check one file, or several that are the splits of one data set: training first, then the others."""
    everything = [label for examples in files for labels in examples.labels for label in labels]
    labels = Counter(everything)
    problems = [problem for examples in files for problem in _file_problems(examples)]
    problems += _label_problems(files[0])
    problems += _leakage(files)
    return Report(
        rows=sum(len(examples) for examples in files),
        labels=dict(labels.most_common()),
        kind=files[0].kind,
        pairs=files[0].pairs,
        words=_words(files),
        problems=problems,
    )


def drop(examples: Examples, kinds: str) -> tuple[Examples, dict[str, int]]:
    """Leave out the rows of the named kinds; return the rest, and how many went for each kind."""
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    for kind in wanted:
        if kind not in DROPPABLE:
            raise UsageError(f"rows cannot be dropped for {kind!r}.", hint=nearest(kind, DROPPABLE) or str(DROPPABLE))
    counts = dict.fromkeys(wanted, 0)
    if "bad-row" in wanted:
        counts["bad-row"] = len(examples.bad)
        examples.bad.clear()
    # Labels last, and again: every row that goes can leave another label with one row alone.
    for kind in [kind for kind in DROPPABLE if kind in wanted]:
        while gone := _droppable_rows(examples, kind):
            counts[kind] += len(gone)
            bad = examples.bad
            examples = examples.take([row for row in range(len(examples)) if row not in gone])
            examples.bad = bad
    return examples, counts


def _droppable_rows(examples: Examples, kind: str) -> set[int]:
    if kind == "label-once":
        return {row for found in _once(examples).values() for row in found}
    return set(dict(_row_kinds(examples)).get(kind, []))


def _problem(
    kind: str, severity: Literal["error", "warning"], examples: Examples, rows: list[int], message: str
) -> Problem:
    return Problem(
        kind, severity, examples.name, len(rows), [examples.lines[row] for row in rows[:ROWS_SHOWN]], message
    )


def _row_kinds(examples: Examples) -> Iterator[tuple[str, list[int]]]:
    yield "empty-text", [row for row, text in enumerate(examples.texts) if is_empty(text)]
    single = examples.kind == "single-label"
    yield (
        "empty-label",
        [row for row, labels in enumerate(examples.labels) if ("" in labels) or (single and not labels)],
    )


def is_empty(text: Text) -> bool:
    """Return whether a text, or one of a pair, holds nothing but white space."""
    return not text.strip() if isinstance(text, str) else not all(part.strip() for part in text)


def _file_problems(examples: Examples) -> Iterator[Problem]:
    if examples.bad:
        first = examples.bad[0]
        lines = [row.line for row in examples.bad[:ROWS_SHOWN]]
        message = f"{_rows(len(examples.bad))} do not parse; the first: {first.why}."
        yield Problem("bad-row", "error", examples.name, len(examples.bad), lines, message)
    messages = {"empty-text": "without a text.", "empty-label": "without a label."}
    for kind, rows in _row_kinds(examples):
        if rows:
            yield _problem(kind, "error", examples, rows, f"{_rows(len(rows))} {messages[kind]}")
    damaged = [row for row, text in enumerate(examples.texts) if _is_damaged(text)]
    if damaged:
        message = f"{_rows(len(damaged))} look wrongly decoded (like 'Ã©' for 'é')."
        yield _problem("encoding-damage", "warning", examples, damaged, message)
    yield from _repeats(examples)


def _is_damaged(text: Text) -> bool:
    for part in (text,) if isinstance(text, str) else text:
        if not part.isascii() and ("\N{REPLACEMENT CHARACTER}" in part or is_bad(part)):
            return True
    return False


def _repeats(examples: Examples) -> Iterator[Problem]:
    groups: dict[int, list[int]] = defaultdict(list)
    for row, text in enumerate(examples.texts):
        if not is_empty(text):  # these have a problem of their own
            groups[key(text)].append(row)
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    conflicts = [rows for rows in repeated if len({frozenset(examples.labels[row]) for row in rows}) > 1]
    again = [row for rows in repeated for row in rows[1:]]
    if again:
        yield _problem("duplicate", "warning", examples, again, f"{_rows(len(again))} repeat an earlier text.")
    if conflicts:
        rows = [row for group in conflicts for row in group]
        message = f"{len(conflicts)} texts stand there several times with different labels."
        yield _problem("conflict", "warning", examples, rows, message)


def _label_problems(examples: Examples) -> Iterator[Problem]:
    counts = Counter(label for labels in examples.labels for label in labels if label)
    if len(counts) < (2 if examples.kind == "single-label" else 1):
        needed = "two labels" if examples.kind == "single-label" else "a label"
        found = ", ".join(f"only {label!r}" for label in counts) or "none"
        yield _problem("single-label", "error", examples, [], f"a classifier needs {needed}; there is {found}.")
        return
    once = _once(examples)
    if once:
        rows = sorted(row for found_rows in once.values() for row in found_rows)
        yield _problem("label-once", "error", examples, rows, _once_message(list(once), counts))
    common = max(counts.values())
    rare = {label: count for label, count in counts.items() if count > 1 and count * IMBALANCE < common}
    if rare:
        listed = ", ".join(f"{label!r} ({count})" for label, count in rare.items())
        yield _problem(
            "imbalance", "warning", examples, [], f"rare beside the commonest label ({common} rows): {listed}."
        )
    yield from _alike(examples, counts)


def _once_message(once: list[str], counts: Counter[str]) -> str:
    """Name the first labels that occur once, each with the label it may be a slip of the pen for."""
    usual = [label for label, count in counts.items() if count > 1]
    named = []
    for label in once[:LABELS_SHOWN]:
        other = nearest(label, usual)
        named.append(f"{label!r}{f' ({other})' if other else ''}")
    if len(once) == 1:
        return f"the label {named[0]} occurs once, so it cannot be both learned and measured."
    more = f" and {len(once) - LABELS_SHOWN} more" if len(once) > LABELS_SHOWN else ""
    return f"{len(once)} labels occur once, so they cannot be both learned and measured: {', '.join(named)}{more}."


def _once(examples: Examples) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, labels in enumerate(examples.labels):
        for label in labels:
            rows[label].append(row)
    return {label: found for label, found in rows.items() if label and len(found) == 1}


def _alike(examples: Examples, counts: Counter[str]) -> Iterator[Problem]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        # Without a letter the signs are what tells labels apart: '+' and '-', '1' and '-1'.
        letters = any(character.isalpha() for character in label)
        spellings[re.sub(r"[\W_]+", "", label.casefold()) if letters else label].append(label)
    for labels in spellings.values():
        if len(labels) > 1:
            names = ", ".join(map(repr, labels))
            yield _problem("label-spelling", "warning", examples, [], f"labels that may be one and the same: {names}.")


def _leakage(files: Sequence[Examples]) -> Iterator[Problem]:
    seen: dict[int, str] = {}
    for examples in files if len(files) > 1 else ():  # alone it has nowhere to leak to
        keys = [key(text) for text in examples.texts]
        leaked = [row for row, found in enumerate(keys) if found in seen and not is_empty(examples.texts[row])]
        if leaked:
            other = seen[keys[leaked[0]]]
            message = f"{_rows(len(leaked))} stand in {other} too: what is measured on them is too good to be true."
            yield _problem("leakage", "warning", examples, leaked, message)
        for found in keys:
            seen.setdefault(found, examples.name)


def _words(files: Sequence[Examples]) -> dict[str, int]:
    counts = [len(t.split()) if isinstance(t, str) else sum(len(p.split()) for p in t) for e in files for t in e.texts]
    if not counts:
        return {}
    low, middle, high, most = np.percentile(counts, [5, 50, 95, 100])
    return {"p5": int(low), "median": int(middle), "p95": int(high), "longest": int(most)}


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
