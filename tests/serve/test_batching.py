from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertie.errors import DeadlinePassed, Overloaded
from bertie.serve.batching import LEAST_TOKENS, MAX_ROWS, SLICE, Batch, Job, Waiting, best_range
from bertie.tokens import Tokens

PLENTY = 1e9


class Told:
    """Counts how often a job said that it has ended."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def job(*lengths: int, deadline: float = 100.0, first: int = 1) -> Job:
    """Return a job with one window for each length; its token ids count from `first`."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(first, first + starts[-1], dtype=np.int32)
    rows = np.arange(len(lengths))
    tokens = Tokens(ids, np.zeros(len(ids), np.int8), starts, rows, np.zeros(len(rows), np.bool_))
    return Job(tokens, np.full((len(rows), 2), np.nan, np.float32), deadline, Told())


def told(one: Job) -> int:
    assert isinstance(one.notify, Told)
    return one.notify.times


OVERHEAD = 64.0


def waiting(*jobs: Job, batch_tokens: int = 64) -> Waiting:
    queue = Waiting(batch_tokens=batch_tokens, overhead=OVERHEAD)
    for one in jobs:
        queue.put(one, room=PLENTY)
    return queue


def taken(batch: Batch | None) -> list[tuple[Job, list[int]]]:
    assert batch is not None
    return [(one, windows.tolist()) for one, windows in batch.parts]


def model(batch: Batch) -> NDArray[np.float32]:
    """Answer each window with its first token and its number of tokens, so that a mix-up shows."""
    inputs = batch.inputs(pad_id=0)
    return np.stack([inputs["input_ids"][:, 0], inputs["attention_mask"].sum(axis=1)], axis=1).astype(np.float32)


def test_windows_of_several_requests_run_together() -> None:
    first, second = job(5), job(6)
    queue = waiting(first, second)
    assert taken(queue.take(0)) == [(first, [0]), (second, [0])]
    assert queue.tokens == 0
    assert queue.take(0) is None


def test_the_oldest_request_is_in_the_batch_even_where_others_would_fill_a_better_one() -> None:
    old = job(500)
    queue = waiting(old, *(job(8) for _ in range(50)))
    assert taken(queue.take(0))[0] == (old, [0])


def test_a_short_text_does_not_wait_with_a_long_one() -> None:
    """What shorter windows would be padded with is worth more than a call of their own."""
    short, long = job(4), job(60)
    queue = waiting(short, *(job(5) for _ in range(20)), long, batch_tokens=1024)
    batch = taken(queue.take(0))
    assert short in [one for one, _ in batch]
    assert long not in [one for one, _ in batch]


def test_two_small_requests_share_a_call_although_one_is_padded() -> None:
    """A call costs more than the padding here; where it costs less, each has its own."""
    first, second = job(4), job(12)
    assert len(taken(waiting(first, second).take(0))) == 2
    queue = Waiting(batch_tokens=64, overhead=1.0)
    for one in (job(4), job(12)):
        queue.put(one, room=PLENTY)
    assert len(taken(queue.take(0))) == 1


def test_a_batch_is_what_is_computed_in_a_short_time() -> None:
    queue = Waiting(batch_tokens=1024)
    for rate, tokens in ((1e6, 1024), (50_000, 800), (10, LEAST_TOKENS)):
        queue.pace(rate)
        assert queue.batch_tokens == tokens
    for _ in range(100):
        queue.put(job(16), room=PLENTY)
    batch = queue.take(0)
    assert batch is not None
    assert batch.tokens == LEAST_TOKENS
    queue = Waiting(batch_tokens=32)
    queue.pace(1e6)
    assert queue.batch_tokens == 32


def test_what_is_large_is_what_takes_several_batches_at_the_models_speed() -> None:
    large, small = job(*[20] * 20), job(5)
    queue = Waiting(batch_tokens=1024)
    queue.pace(10)
    for one in (large, small):
        queue.put(one, room=PLENTY)
    assert [one for one, _ in taken(queue.take(0))] == [large]
    assert queue.jobs == [small, large]


def test_a_batch_that_fails_is_halved_until_one_request_is_left() -> None:
    jobs = [job(5) for _ in range(5)]
    batch = waiting(*jobs).take(0)
    assert batch is not None
    found, queue = [], [batch]
    while queue:
        one = queue.pop(0)
        halves = one.halves()
        queue += halves
        found += [] if halves else [one]
    assert [len(one.parts) for one in found] == [1] * 5
    found[2].fail(ValueError())
    assert [told(one) for one in jobs] == [0, 0, 1, 0, 0]


def test_a_request_of_many_texts_gets_its_answers_in_order() -> None:
    many = job(3, 9, 3, 7, 1, first=10)
    queue = waiting(many, batch_tokens=12)
    batches = 0
    while (batch := queue.take(0)) is not None:
        assert told(many) == 0
        batch.fill(model(batch))
        batches += 1
    assert batches > 1
    assert told(many) == 1
    assert many.logits.tolist() == [[10, 3], [13, 9], [22, 3], [25, 7], [32, 1]]


def test_what_nobody_waits_for_is_not_computed() -> None:
    late, left, kept = job(5, deadline=1.0), job(5), job(5)
    left.gone = True
    queue = waiting(late, left, kept)
    assert taken(queue.take(1.0)) == [(kept, [0])]
    assert isinstance(late.error, DeadlinePassed)
    assert (told(late), told(left)) == (1, 0)
    assert queue.tokens == 0


def test_a_request_late_by_a_part_is_told_once() -> None:
    one = job(9, 9, deadline=1.0)
    queue = waiting(one, batch_tokens=9)
    first = queue.take(0)
    assert first is not None
    assert queue.take(1.0) is None
    first.fill(model(first))
    assert told(one) == 1
    assert isinstance(one.error, DeadlinePassed)


def test_only_so_much_may_wait() -> None:
    queue = Waiting(batch_tokens=64)
    queue.put(job(30), room=20)  # alone, anything is let in: it could never be answered otherwise
    with pytest.raises(Overloaded):
        queue.put(job(1), room=30)
    queue.put(job(1), room=31)
    assert queue.tokens == 31


def test_a_large_request_does_not_hold_up_small_ones() -> None:
    large, small = job(*[20] * 100), [job(5), job(60), job(9)]
    queue = waiting(large, batch_tokens=64)
    order = [taken(queue.take(0))]
    for one in small:
        queue.put(one, room=PLENTY)
    while not all(one.left <= 0 or one.pending == 0 for one in small):
        order.append(taken(queue.take(0)))
    # At most every other batch is the large one's.
    assert len(order) <= 1 + 2 * len(small)
    assert large.pending > 0


def test_a_large_request_leaves_half_of_the_room_to_others() -> None:
    queue = waiting(job(*[20] * 1000), batch_tokens=64)
    queue.put(job(50), room=100)
    with pytest.raises(Overloaded):
        queue.put(job(1), room=100)
    # A second large one takes the other half, and a third has no room.
    queue = waiting(job(*[20] * 1000), batch_tokens=64)
    queue.put(job(*[20] * 500), room=100)
    for late in (job(*[20] * 500), job(1)):
        with pytest.raises(Overloaded):
            queue.put(late, room=100)


def test_a_request_of_more_windows_than_are_looked_at_at_once_is_answered_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bertie.serve.batching.SLICE", 8)
    many, few = job(*[3, 9, 3, 7, 1] * 7, first=10), job(4, 9)
    queue = waiting(many, few, batch_tokens=24)
    while (batch := queue.take(0)) is not None:
        for one, windows in batch.parts:
            assert max(windows) - min(windows) < 8, "they are of one slice"
            assert one.first >= min(8, len(one.lengths)) or min(windows) < 8
        batch.fill(model(batch))
    for one in (many, few):
        assert told(one) == 1
        assert one.logits[:, 1].tolist() == one.lengths.tolist()
        assert one.logits[:, 0].tolist() == one.tokens.ids[one.tokens.starts[:-1]].tolist()


def test_the_time_for_a_batch_does_not_grow_with_the_request() -> None:
    looked = []
    for count in (4_000, 200_000):
        one = job(*[5] * count)
        queue = waiting(one, batch_tokens=640)
        for _ in range(20):
            looked.append(len(one.next()))
            batch = queue.take(0)
            assert batch is not None
            assert len(batch.inputs(0)["input_ids"]) == 128
    assert max(looked) <= SLICE


@given(
    st.lists(st.lists(st.integers(1, 70), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(1, 300),
    st.data(),
)
def test_each_window_runs_once_with_the_oldest_always_among_them(
    requests: list[list[int]], batch_tokens: int, data: st.DataObject
) -> None:
    jobs = [job(*lengths, first=100 * place) for place, lengths in enumerate(requests)]
    queue, arriving = Waiting(batch_tokens=batch_tokens), list(jobs)
    ran: set[tuple[int, int]] = set()
    while arriving or queue.jobs:
        for _ in range(data.draw(st.integers(0 if queue.jobs else 1, 3)) if arriving else 0):
            if arriving:
                queue.put(arriving.pop(0), room=PLENTY)
        oldest = queue.jobs[0]
        batch = queue.take(0)
        parts = taken(batch)
        assert parts[0][0] is oldest
        windows = [(id(one), window) for one, numbers in parts for window in numbers]
        lengths = [one.tokens.lengths[window] for one, numbers in parts for window in numbers]
        assert not ran & set(windows)
        ran |= set(windows)
        assert len(windows) == 1 or len(windows) * max(lengths) <= batch_tokens
        assert len(windows) <= MAX_ROWS
        assert batch is not None
        batch.fill(model(batch))
    assert [told(one) for one in jobs] == [1] * len(jobs)
    for one in jobs:
        assert one.logits[:, 1].tolist() == one.tokens.lengths.tolist()
        assert one.logits[:, 0].tolist() == one.tokens.ids[one.tokens.starts[:-1]].tolist()


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 2000), st.data())
def test_no_range_around_the_oldest_computes_more_in_the_time(
    lengths: list[int], budget: int, data: st.DataObject
) -> None:
    """Against every range that takes windows of a length together, which is what it is to do where they fit."""
    ordered = np.sort(np.asarray(lengths, dtype=np.int64))
    chosen = data.draw(st.integers(0, len(ordered) - 1))
    anchor = int(np.searchsorted(ordered, ordered[chosen], side="right")) - 1
    start, end = best_range(ordered, anchor, budget, OVERHEAD)
    assert start <= anchor < end
    worth: Callable[[int, int], float] = lambda a, b: ordered[a:b].sum() / (OVERHEAD + (b - a) * ordered[b - 1])  # noqa: E731
    fits = [
        worth(a, b)
        for a in range(anchor + 1)
        for b in range(anchor + 1, len(ordered) + 1)
        if (a == 0 or ordered[a - 1] < ordered[a]) and (b == len(ordered) or ordered[b - 1] < ordered[b])
        if (b - a) * ordered[b - 1] <= budget and b - a <= MAX_ROWS
    ]
    assert worth(start, end) >= max(fits, default=0) - 1e-9
