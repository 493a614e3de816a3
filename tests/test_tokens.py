from __future__ import annotations

import tracemalloc
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bertie.errors import RequestInvalid, UsageError
from bertie.tokens import Text, TextEncoder, TextLimits, Tokens, _chunks, by_length, pooled

WORDS = st.lists(st.sampled_from(["parcel", "late", "one", "two", "refund", "x"]), max_size=60).map(" ".join)
TEXTS = st.lists(st.one_of(WORDS, st.tuples(WORDS, WORDS)), min_size=1, max_size=8)
SLOW_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def content(tokens: Tokens, tokenizer: Tokenizer, row: int) -> list[list[str]]:
    names = [tokenizer.id_to_token(int(i)) or "" for i in tokens.ids]
    return [names[tokens.starts[w] : tokens.starts[w + 1]] for w in np.flatnonzero(tokens.rows == row)]


def test_short_texts_are_framed_and_nothing_is_cut(tiny_tokenizer: Tokenizer) -> None:
    tokens = TextEncoder(tiny_tokenizer, TextLimits(16)).encode(["where is my parcel", ("one two", "three")])
    assert content(tokens, tiny_tokenizer, 0) == [["[CLS]", "where", "is", "my", "parcel", "[SEP]"]]
    assert content(tokens, tiny_tokenizer, 1) == [["[CLS]", "one", "two", "[SEP]", "three", "[SEP]"]]
    assert tokens.types[tokens.starts[1] :].tolist() == [0, 0, 0, 0, 1, 1]
    assert not tokens.truncated.any()


def test_a_cut_text_is_counted(tiny_tokenizer: Tokenizer) -> None:
    tokens = TextEncoder(tiny_tokenizer, TextLimits(8)).encode(["one " * 20, "one " * 6, ("one " * 9, "two " * 9)])
    assert tokens.truncated.tolist() == [True, False, True]
    assert tokens.lengths.tolist() == [8, 8, 8]


@SLOW_FIXTURE
@given(texts=TEXTS, overlap=st.integers(0, 3))
def test_windows_hold_the_whole_text(tiny_tokenizer: Tokenizer, texts: list[Text], overlap: int) -> None:
    limits = TextLimits(14, "windows", overlap, max_windows=100)
    tokens = TextEncoder(tiny_tokenizer, limits).encode(texts)
    assert tokens.lengths.max() <= 14
    assert set(tokens.rows.tolist()) == set(range(len(texts)))
    for row, text in enumerate(texts):
        windows = content(tokens, tiny_tokenizer, row)
        second = text if isinstance(text, str) else text[1]
        wanted = second.split()
        bodies = [window[1:-1] if isinstance(text, str) else _second(window) for window in windows]
        rebuilt = bodies[0]
        for body in bodies[1:]:
            assert rebuilt[len(rebuilt) - overlap :] == body[:overlap]
            rebuilt = rebuilt + body[overlap:]
        assert rebuilt == wanted


def _second(window: list[str]) -> list[str]:
    middle = window.index("[SEP]")
    return window[middle + 1 : -1]


def test_a_text_of_too_many_windows_is_cut_there_and_counted(tiny_tokenizer: Tokenizer) -> None:
    tokens = TextEncoder(tiny_tokenizer, TextLimits(10, "windows", 2, max_windows=3)).encode(["one " * 99, "one"])
    assert np.bincount(tokens.rows).tolist() == [3, 1]
    assert tokens.truncated.tolist() == [True, False]


def test_many_texts_are_the_same_as_one_at_a_time(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertie.tokens.CHUNK", 3)
    encoder = TextEncoder(tiny_tokenizer, TextLimits(12, "windows", 2))
    texts: list[Text] = ["one " * n for n in range(10)]
    together = encoder.encode(texts)
    for row, text in enumerate(texts):
        alone = encoder.encode([text])
        assert content(together, tiny_tokenizer, row) == content(alone, tiny_tokenizer, 0)


def test_long_texts_go_to_the_tokenizer_a_few_at_a_time(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[Text] = ["one two three", ("one", "two"), "", "four " * 9, "five"]
    assert list(_chunks(texts)) == [texts]
    monkeypatch.setattr("bertie.tokens.CHUNK_CHARACTERS", 19)
    assert list(_chunks(texts)) == [texts[:3], texts[3:4], texts[4:]]
    assert list(_chunks([])) == []
    encoder = TextEncoder(tiny_tokenizer, TextLimits(12))
    together = encoder.encode(texts)
    assert together.truncated.tolist() == [False] * 5
    for row, text in enumerate(texts):
        assert content(together, tiny_tokenizer, row) == content(encoder.encode([text]), tiny_tokenizer, 0)
    assert encoder.count(texts).tolist() == together.lengths.tolist()


def test_no_texts_have_no_tokens(tiny_tokenizer: Tokenizer) -> None:
    tokens = TextEncoder(tiny_tokenizer, TextLimits(12)).encode([])
    assert (len(tokens.ids), len(tokens.rows), len(tokens.truncated), tokens.starts.tolist()) == (0, 0, 0, [0])


def test_the_tokens_of_a_large_set_never_stand_in_memory_twice(tiny_tokenizer: Tokenizer) -> None:
    texts: list[Text] = ["one two three four five six " * 8] * 40_000
    encoder = TextEncoder(tiny_tokenizer, TextLimits(64))
    tracemalloc.start()
    try:
        tokens = encoder.encode(texts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * sum(getattr(tokens, field.name).nbytes for field in fields(tokens))


def test_padding_stands_right_and_is_masked(tiny_tokenizer: Tokenizer) -> None:
    tokens = TextEncoder(tiny_tokenizer, TextLimits(16)).encode(["one two three", "one"])
    inputs = tokens.pad(np.array([1, 0]), pad_id=0)
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert (inputs["input_ids"][0, 3:] == 0).all()
    assert (inputs["input_ids"][1] != 0).all()


@pytest.mark.parametrize("text", ["half \ud83d", ("fine", "\udfff")])
def test_half_a_character_is_refused(tiny_tokenizer: Tokenizer, text: Text) -> None:
    with pytest.raises(RequestInvalid, match="surrogate"):
        TextEncoder(tiny_tokenizer, TextLimits(16)).encode([text])


@pytest.mark.parametrize("limits", [TextLimits(5), TextLimits(16, "windows", 9), TextLimits(16, max_windows=0)])
def test_limits_that_cannot_work_are_refused(tiny_tokenizer: Tokenizer, limits: TextLimits) -> None:
    with pytest.raises(UsageError, match="cannot work"):
        TextEncoder(tiny_tokenizer, limits)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 8), st.integers(10, 100))
def test_batches_hold_every_window_once_within_the_budget(lengths: list[int], max_rows: int, max_cells: int) -> None:
    batches = list(by_length(np.asarray(lengths, dtype=np.int64), max_rows, max_cells))
    assert sorted(np.concatenate([np.zeros(0, int), *batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[window] for window in batch)
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * longest <= max_cells


def test_pooling_is_the_mean_over_a_texts_windows() -> None:
    logits = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    assert pooled(logits, np.array([0, 0, 1]), 2).tolist() == [[2, 3], [5, 6]]
