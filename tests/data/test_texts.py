from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.config import DataSettings
from bertie.data.examples import read
from bertie.data.texts import Texts
from bertie.tokens import Text
from tests.conftest import write_csv

TEXTS = st.lists(st.text(), max_size=8)
PAIRS = st.lists(st.tuples(st.text(), st.text()), max_size=8)
ANY: st.SearchStrategy[list[Text]] = st.one_of(TEXTS, PAIRS)


def stored(texts: list[Text]) -> Texts:
    kept = Texts(pairs=bool(texts) and isinstance(texts[0], tuple))
    for text in texts:
        kept.append(text)
    return kept


@given(ANY)
def test_any_text_comes_back(texts: list[Text]) -> None:
    kept = stored(texts)
    assert len(kept) == len(texts)
    assert list(kept) == [kept[row] for row in range(len(kept))] == texts
    assert kept == texts
    assert repr(kept) == repr(texts)


@given(ANY, st.slices(8))
def test_a_slice_is_a_list_of_what_a_list_would_give(texts: list[Text], part: slice) -> None:
    assert stored(texts)[part] == texts[part]


@given(ANY, st.data())
def test_some_of_some_texts_are_the_right_ones(texts: list[Text], data: st.DataObject) -> None:
    kept: Texts = stored(texts)
    expected = texts
    for _ in range(2):
        rows = data.draw(st.lists(st.sampled_from(range(len(expected))), max_size=8)) if expected else []
        kept, expected = kept.take(rows), [expected[row] for row in rows]
        assert kept == expected
        assert kept[1:] == expected[1:]


def test_places_count_from_the_end_and_end_at_the_end() -> None:
    kept = stored(["a", "b", "c"])
    assert (kept[-1], kept.take([2, 0])[-1]) == ("c", "a")
    for place in (3, -4):
        with pytest.raises(IndexError):
            kept[place]


def test_other_texts_are_not_equal() -> None:
    kept = stored(["a", "b"])
    assert kept == ("a", "b")
    assert kept == stored(["a", "b"])
    for other in (["a"], ["a", "c"], [("a", "b")], [], "ab", None, stored([("a", "b")])):
        assert kept != other


def test_half_a_character_is_refused_and_leaves_the_others_whole() -> None:
    kept = stored(["a"])
    with pytest.raises(UnicodeEncodeError):
        kept.append("\ud83d")
    kept.append("b")
    assert kept == ["a", "b"]


def test_read_rows_take_little_more_memory_than_their_file(tmp_path: Path) -> None:
    # An emoji makes a Python string of four bytes a character: as strings these rows take 4.5 times their file.
    rows = [(f"{number} 😀 " + "some words of an ordinary message " * 8, "label") for number in range(4000)]
    path = write_csv(tmp_path / "a.csv", rows)
    tracemalloc.start()
    try:
        examples = read(path, DataSettings())
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        examples.write(tmp_path / "a.jsonl")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(examples) == 4000
    assert held < 1.5 * path.stat().st_size
    assert peak - held < 0.2 * path.stat().st_size
