from __future__ import annotations

from collections import Counter

import pytest

from bertie import samples
from bertie.config import DataSettings
from bertie.data.check import check
from bertie.data.examples import Examples, read
from bertie.evaluate.baselines import baselines

LABELS = ("account", "billing", "complaint", "delivery", "fault", "praise", "returns", "spam")
ALIKE = 0.35


def load() -> list[Examples]:
    return [read(samples.path(split), DataSettings()) for split in samples.SPLITS]


def grams(text: str) -> frozenset[str]:
    text = " ".join(text.casefold().split())
    return frozenset(text[place : place + 5] for place in range(max(1, len(text) - 4)))


def near_duplicates(texts: list[str]) -> list[tuple[str, str]]:
    """Return pairs whose character 5-grams overlap by more than ALIKE (Jaccard)."""
    sets = [grams(text) for text in texts]
    holders: dict[str, list[int]] = {}
    found = []
    for place, one in enumerate(sets):
        shared = Counter(other for gram in one for other in holders.get(gram, []))
        for other, count in shared.items():
            if count > ALIKE * (len(one) + len(sets[other]) - count):
                found.append((texts[other], texts[place]))
        for gram in one:
            holders.setdefault(gram, []).append(place)
    return found


def test_there_are_enough_of_each_label_in_each_split() -> None:
    files = load()
    assert sum(map(len, files)) >= 1200
    for examples in files:
        counts = Counter(label for labels in examples.labels for label in labels)
        assert tuple(sorted(counts)) == LABELS
        assert max(counts.values()) <= 1.2 * min(counts.values())


def test_the_check_finds_no_error_no_leak_and_no_conflict() -> None:
    report = check(load())
    assert not report.errors
    assert not {problem.kind for problem in report.problems} & {"duplicate", "conflict", "leakage"}


def test_lengths_vary_from_3_to_120_words() -> None:
    words = [len(str(text).split()) for examples in load() for text in examples.texts]
    assert (min(words), max(words)) == (3, 120)
    assert sum(count < 10 for count in words) > 0.15 * len(words)
    assert sum(count > 60 for count in words) > 0.1 * len(words)


def test_no_two_messages_are_near_duplicates() -> None:
    texts = [str(text) for examples in load() for text in examples.texts]
    assert near_duplicates(texts) == []
    assert near_duplicates([*texts, texts[5] + "!"]) == [(texts[5], texts[5] + "!")]


def test_a_bag_of_words_finds_them_hard() -> None:
    train, _, test = load()
    for one in baselines(train, test, LABELS):
        assert one["accuracy"]["value"] < 0.8


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="no split 'dev'"):
        samples.path("dev")
