from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.data.check import key
from bertie.data.examples import Examples, from_lists
from bertie.data.split import split

LABELS = st.sampled_from("abc")
TEXTS = st.sampled_from([f"text {number}" for number in range(12)] + ["TEXT 1", " text  2"])
SINGLE = st.lists(st.tuples(TEXTS, LABELS), max_size=40)
MULTI = st.lists(st.tuples(TEXTS, st.lists(LABELS, unique=True)), max_size=40)
SHARES = st.lists(st.floats(0.01, 0.49), min_size=1, max_size=2)


def examples(rows: list[tuple[str, str]] | list[tuple[str, list[str]]]) -> Examples:
    return from_lists([text for text, _ in rows], [label for _, label in rows])


def spread(count: int, label: str) -> list[tuple[str, str]]:
    return [(f"{label} {number}", label) for number in range(count)]


def counts(parts: list[Examples]) -> list[dict[str, int]]:
    return [dict(Counter(label for labels in part.labels for label in labels)) for part in parts]


@given(st.one_of(SINGLE, MULTI), SHARES, st.integers(0, 5))
def test_every_row_is_in_one_part_in_the_order_of_the_file(
    rows: list[tuple[str, str]], shares: list[float], seed: int
) -> None:
    parts = split(examples(rows), shares, seed)
    assert len(parts) == len(shares) + 1
    assert sorted(line for part in parts for line in part.lines) == list(range(len(rows)))
    for part in parts:
        assert part.lines == sorted(part.lines)
        assert part.texts == [rows[line][0] for line in part.lines]


@given(SINGLE, SHARES, st.integers(0, 5))
def test_equal_texts_stay_on_one_side(rows: list[tuple[str, str]], shares: list[float], seed: int) -> None:
    parts = split(examples(rows), shares, seed)
    keys = [{key(text) for text in part.texts} for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys))


@given(st.dictionaries(LABELS, st.integers(1, 30), min_size=1), SHARES, st.integers(0, 5))
def test_every_part_has_of_each_label_that_has_enough_texts(
    sizes: dict[str, int], shares: list[float], seed: int
) -> None:
    rows = [row for label, size in sizes.items() for row in spread(size, label)]
    parts = counts(split(examples(rows), shares, seed))
    for label, size in sizes.items():
        if size > len(shares):
            assert all(part.get(label, 0) >= 1 for part in parts)
        else:
            assert parts[0][label] == size


@pytest.mark.parametrize("shares", [(0.4, 0.4), (0.49, 0.49)])
def test_large_shares_leave_something_of_each_label_to_learn(shares: tuple[float, float]) -> None:
    parts = counts(split(examples(spread(4, "a") + spread(4, "b")), shares, 0))
    assert parts[0] == {"a": 1, "b": 1}


def test_shares_are_met_in_each_label() -> None:
    parts = split(examples(spread(100, "a") + spread(20, "b")), (0.1, 0.2), 0)
    assert counts(parts) == [{"a": 70, "b": 14}, {"a": 10, "b": 2}, {"a": 20, "b": 4}]


def test_a_text_with_several_labels_counts_for_its_rarest() -> None:
    common = [(f"common {number}", ["common"]) for number in range(90)]
    both = [(f"both {number}", ["common", "rare"]) for number in range(10)]
    parts = counts(split(examples(common + both), (0.1, 0.1), 0))
    assert [part["rare"] for part in parts] == [8, 1, 1]


def test_texts_without_a_label_are_spread_too() -> None:
    rows: list[tuple[str, list[str]]] = [(f"text {number}", []) for number in range(10)]
    rows += [(f"other {number}", ["a"]) for number in range(10)]
    assert [part.labels.count(()) for part in split(examples(rows), (0.2, 0.2), 0)] == [6, 2, 2]


def test_the_same_seed_gives_the_same_parts_and_another_gives_others() -> None:
    rows = examples(spread(50, "a") + spread(50, "b"))
    assert split(rows, (0.1, 0.1), 3) == split(rows, (0.1, 0.1), 3)
    assert split(rows, (0.1, 0.1), 3) != split(rows, (0.1, 0.1), 4)


def test_pairs_are_split_as_texts_are() -> None:
    pairs = [(f"first {number // 2}", f"second {number // 2}") for number in range(40)]
    parts = split(from_lists(pairs, [str(number // 2 % 2) for number in range(40)]), (0.2, 0.2), 0)
    assert [len(part) for part in parts] == [24, 8, 8]
    assert all(part.pairs for part in parts)


def test_no_rows_give_empty_parts() -> None:
    assert [len(part) for part in split(examples([]), (0.1, 0.1), 0)] == [0, 0, 0]
