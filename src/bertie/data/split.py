"""One file becomes training, validation and test rows: seeded, stratified by label, equal texts on one side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from bertie.data.check import key
from bertie.data.examples import Examples


def split(examples: Examples, shares: Sequence[float], seed: int) -> list[Examples]:
    """Return the rest, then one part for each share.

    Every text goes into the stratum of its rarest label, so that rare labels are spread first; inside a stratum,
    texts that are equal but for case and white space stay together, so that nothing leaks. Every part gets at least
    one text of a stratum that has enough of them. The order of rows in the file is kept.
    """
    random = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for groups in _strata(examples):
        order = random.permutation(len(groups))
        start = 0
        for place, share in enumerate(shares, start=1):
            # One text at least stays for each part still to come, and one for the rest.
            left = len(groups) - start - (len(shares) - place) - 1
            count = min(_count(share, len(groups), len(shares)), max(left, 0))
            parts[place].extend(row for group in order[start : start + count] for row in groups[group])
            start += count
        parts[0].extend(row for group in order[start:] for row in groups[group])
    return [examples.take(sorted(part)) for part in parts]


def _count(share: float, groups: int, parts: int) -> int:
    """Return how many of a stratum's texts a part gets: its share, but one at least where all can have one."""
    return max(round(share * groups), 1) if groups > parts else 0


def _strata(examples: Examples) -> list[list[list[int]]]:
    """Return for each stratum its groups of equal texts, each a list of rows; in the order of the file."""
    counts = Counter(label for labels in examples.labels for label in labels)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, text in enumerate(examples.texts):
        groups[key(text)].append(row)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for rows in groups.values():
        labels = examples.labels[rows[0]]
        strata[min(labels, key=lambda label: (counts[label], label), default="")].append(rows)
    return [strata[label] for label in sorted(strata)]
