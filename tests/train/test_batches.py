from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertie.tokens import Tokens
from bertie.train.batches import Batches

SHAPES = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), min_size=1, max_size=60)


def tokens_of(shapes: list[list[int]]) -> Tokens:
    lengths = [length for windows in shapes for length in windows]
    return Tokens(
        ids=np.zeros(sum(lengths), dtype=np.int32),
        types=np.zeros(sum(lengths), dtype=np.int8),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        rows=np.repeat(np.arange(len(shapes)), [len(windows) for windows in shapes]),
        truncated=np.zeros(len(shapes), dtype=np.bool_),
    )


def as_lists(dealt: list[NDArray[np.int64]]) -> list[list[int]]:
    return [batch.tolist() for batch in dealt]


@given(SHAPES, st.integers(1, 9), st.integers(0, 5))
def test_a_pass_has_every_text_once(shapes: list[list[int]], batch_size: int, number: int) -> None:
    batches = Batches(tokens_of(shapes), batch_size, 64, seed=7)
    dealt = batches.epoch(number)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(shapes)))
    assert len(dealt) == batches.in_pass
    assert sum(len(batch) == batch_size for batch in dealt) >= len(dealt) - 1


@given(SHAPES, st.integers(1, 9), st.integers(4, 80))
def test_parts_hold_the_windows_of_their_texts_within_the_budget(
    shapes: list[list[int]], batch_size: int, budget: int
) -> None:
    tokens = tokens_of(shapes)
    batches = Batches(tokens, batch_size, budget, seed=0)
    for texts in batches.epoch(0):
        parts = list(batches.parts(texts))
        assert sorted(np.concatenate([part.texts for part in parts]).tolist()) == sorted(texts.tolist())
        for part in parts:
            assert (tokens.rows[part.windows] == part.texts[part.rows]).all()
            assert len(part.windows) == sum(len(shapes[text]) for text in part.texts)
            cells = max(max(shapes[text]) * len(shapes[text]) for text in part.texts) * len(part.texts)
            assert cells <= budget or len(part.texts) == 1


def test_the_same_seed_deals_the_same_batches_and_another_pass_others() -> None:
    tokens = tokens_of([[1 + n % 7] for n in range(50)])
    one, two = Batches(tokens, 8, 64, seed=3), Batches(tokens, 8, 64, seed=3)
    assert as_lists(one.epoch(1)) == as_lists(two.epoch(1))
    assert as_lists(one.epoch(1)) != as_lists(one.epoch(2))
    assert as_lists(one.epoch(1)) != as_lists(Batches(tokens, 8, 64, seed=4).epoch(1))


def test_texts_of_like_length_stand_together() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 100, size=800)
    batches = Batches(tokens_of([[int(n)] for n in lengths]), 16, 10_000, seed=0)
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches.epoch(0))
    shuffled = sum(int(lengths[n : n + 16].max()) * 16 for n in range(0, 800, 16))
    assert padded < 1.1 * lengths.sum()
    assert shuffled > 1.5 * lengths.sum()
