from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertie
from bertie.errors import BertieError, BundleUnusable, DeadlinePassed, NotReady, Overloaded, RequestInvalid
from bertie.serve.batching import Batch
from bertie.serve.scheduler import INLINE_CHARACTERS, Scheduler

pytestmark = pytest.mark.anyio
TEXTS = ["where is my parcel", "i love it", "the parcel is late", "ok", "thank you so much for the parcel " * 3]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


class Held:
    """A classifier whose model waits until it is let go, counts its calls, and fails on one token if told to."""

    def __init__(self, classifier: bertie.Classifier) -> None:
        self._classifier = classifier
        self.go = threading.Event()
        self.go.set()
        self.running = threading.Event()
        self.calls: list[tuple[int, ...]] = []
        self.poison: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> Any:
        self.running.set()
        assert self.go.wait(20)
        self.calls.append(inputs["input_ids"].shape)
        if self.poison is not None and (inputs["input_ids"] == self.poison).any():
            raise RuntimeError("a kernel that fails on some input")
        return self._classifier.run(inputs)


@pytest.fixture
def held(classifier: bertie.Classifier) -> Held:
    return Held(classifier)


@pytest.fixture
def scheduler(held: Held) -> Iterator[Scheduler]:
    made = Scheduler(held, batch_tokens=512, queue_seconds=60)  # type: ignore[arg-type]  # all that is used is there
    held.calls.clear()
    held.running.clear()
    yield made
    held.go.set()
    made.close()


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


async def busy(scheduler: Scheduler, held: Held) -> asyncio.Task[Any]:
    """Return a request that the model works on until it is let go."""
    held.go.clear()
    task = asyncio.create_task(scheduler.classify(["ok"], timeout=30))
    await until(held.running)
    return task


async def test_answers_are_those_of_the_classifier(scheduler: Scheduler, classifier: bertie.Classifier) -> None:
    answers = await asyncio.gather(*(scheduler.classify(TEXTS[: n + 1], timeout=30) for n in range(len(TEXTS))))
    for count, answer in enumerate(answers, 1):
        expected = classifier.predict(TEXTS[:count])
        assert [one.label for one in answer.predictions] == [one.label for one in expected]
        found, wanted = ([one.score for one in given] for given in (answer.predictions, expected))
        assert np.allclose(found, wanted, atol=1e-5)
        assert answer.phases.keys() == {"tokenize", "queue", "model"}


async def test_the_next_batch_forms_while_one_runs(scheduler: Scheduler, held: Held) -> None:
    first = await busy(scheduler, held)
    rest = [asyncio.create_task(scheduler.classify([text], timeout=30)) for text in TEXTS[:3]]
    while len(scheduler._waiting.jobs) < 3:
        await asyncio.sleep(0.001)
    held.go.set()
    await asyncio.gather(first, *rest)
    assert [shape[0] for shape in held.calls] == [1, 3]


async def test_a_long_request_is_tokenized_beside_the_loop(scheduler: Scheduler) -> None:
    text = "parcel " * INLINE_CHARACTERS
    answer = await scheduler.classify([text, "ok"], timeout=30)
    assert len(answer.predictions) == 2


async def test_only_the_guilty_request_fails(scheduler: Scheduler, held: Held, classifier: bertie.Classifier) -> None:
    first = await busy(scheduler, held)
    held.poison = int(classifier.encode(["love"]).ids[1])
    rest = [asyncio.create_task(scheduler.classify([text], timeout=30)) for text in TEXTS[:4]]
    while len(scheduler._waiting.jobs) < 4:
        await asyncio.sleep(0.001)
    held.go.set()
    answers = await asyncio.gather(first, *rest, return_exceptions=True)
    failed = [type(answer) for answer in answers if isinstance(answer, Exception)]
    assert failed == [RuntimeError]
    assert isinstance(answers[2], RuntimeError)  # "i love it"


async def test_scores_that_are_no_numbers_are_an_error_of_the_model(
    scheduler: Scheduler, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "run", lambda inputs: np.full((len(inputs["input_ids"]), 2), np.nan, np.float32))
    with pytest.raises(BundleUnusable, match="no numbers"):
        await scheduler.classify(["ok"], timeout=30)


async def test_a_deadline_passes_while_the_model_is_busy(scheduler: Scheduler, held: Held) -> None:
    first = await busy(scheduler, held)
    with pytest.raises(DeadlinePassed):
        await scheduler.classify(["late"], timeout=0.05)
    held.go.set()
    await first
    await scheduler.classify(["ok"], timeout=30)  # by then the late one has been left out
    assert scheduler.tokens == 0
    assert [shape[0] for shape in held.calls] == [1, 1]


async def test_a_client_that_left_costs_no_model_call(scheduler: Scheduler, held: Held) -> None:
    first = await busy(scheduler, held)
    leaving = asyncio.create_task(scheduler.classify(["ok"] * 50, timeout=30))
    while not scheduler.tokens:
        await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    held.go.set()
    await first
    await scheduler.classify(["ok"], timeout=30)
    assert [shape[0] for shape in held.calls] == [1, 1]


async def test_what_cannot_be_answered_in_time_is_refused_at_once(held: Held) -> None:
    made = Scheduler(held, batch_tokens=8, queue_seconds=1e-9)  # type: ignore[arg-type]  # as above
    held.running.clear()
    first = await busy(made, held)
    second = asyncio.create_task(made.classify(["where is my parcel"], timeout=30))
    while not made.tokens:
        await asyncio.sleep(0.001)
    with pytest.raises(Overloaded):
        await made.classify(["where is my parcel"], timeout=30)
    held.go.set()
    await asyncio.gather(first, second)
    made.close()


async def test_what_is_no_text_never_waits(scheduler: Scheduler) -> None:
    with pytest.raises(RequestInvalid):
        await scheduler.classify([1], timeout=1)  # type: ignore[list-item]  # what is tested
    assert scheduler.tokens == 0


async def test_closing_answers_what_was_accepted_and_nothing_else(scheduler: Scheduler, held: Held) -> None:
    first = await busy(scheduler, held)
    second = asyncio.create_task(scheduler.classify(["where is my parcel"], timeout=30))
    while not scheduler.tokens:
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(asyncio.to_thread(scheduler.close))
    await asyncio.sleep(0.01)
    held.go.set()
    answers = await asyncio.gather(first, second)
    await closing
    assert all(len(answer.predictions) == 1 for answer in answers)
    with pytest.raises(NotReady):
        await scheduler.classify(["ok"], timeout=1)
    assert issubclass(NotReady, BertieError)


async def test_what_finds_too_much_waiting_is_refused_before_it_is_tokenized(
    classifier: bertie.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(classifier)
    scheduler = Scheduler(held, batch_tokens=8, queue_seconds=1e-9)  # type: ignore[arg-type]  # all that is used is there
    held.running.clear()
    first = await busy(scheduler, held)
    # Each is more than a batch, and takes half of the room.
    others = [asyncio.create_task(scheduler.classify(["the parcel is late " * 3], timeout=30)) for _ in range(2)]
    await asyncio.sleep(0.05)
    tokenized: list[object] = []
    monkeypatch.setattr(held, "encode", tokenized.append, raising=False)
    with pytest.raises(Overloaded):
        await scheduler.classify(["ok"], timeout=30)
    assert tokenized == []
    held.go.set()
    await asyncio.gather(first, *others)
    scheduler.close()


async def test_who_waits_for_one_batch_is_woken_at_once(
    scheduler: Scheduler, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, woken = asyncio.get_running_loop(), 0
    wake = loop.call_soon_threadsafe

    def counted(*arguments: Any, **others: Any) -> Any:
        nonlocal woken
        woken += threading.current_thread().name == "bertie-model"
        return wake(*arguments, **others)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    first = await busy(scheduler, held)
    others = [asyncio.create_task(scheduler.classify(["i love it"], timeout=30)) for _ in range(9)]
    await asyncio.sleep(0.05)
    held.go.set()
    await asyncio.gather(first, *others)
    assert [rows for rows, _ in held.calls] == [1, 9]
    assert woken == 2


async def test_what_could_never_be_ready_in_time_is_refused_at_once(scheduler: Scheduler, held: Held) -> None:
    scheduler.rate = 100.0
    with pytest.raises(DeadlinePassed, match="take about"):
        await scheduler.classify(["where is my parcel"] * 2000, timeout=30)
    assert held.calls == []
    assert len((await scheduler.classify(["where is my parcel"] * 80, timeout=30)).predictions) == 80


async def test_an_error_nobody_expected_fails_who_waits_and_not_the_thread(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    broken: list[bool] = []
    text = "where is my secret parcel"  # what a library's error may repeat

    def observe(_: Batch) -> None:
        if broken:
            raise ValueError(text)

    made = Scheduler(held, batch_tokens=512, queue_seconds=60, observe=observe)  # type: ignore[arg-type]  # as above
    held.running.clear()
    try:
        first = await busy(made, held)
        broken.append(True)
        rest = [asyncio.create_task(made.classify(["ok"], timeout=30)) for _ in range(3)]
        while len(made._waiting.jobs) < 3:
            await asyncio.sleep(0.001)
        held.go.set()
        assert len((await first).predictions) == 1  # it was answered before
        for one in rest:
            with pytest.raises(ValueError, match="secret"):
                await one
        broken.clear()
        assert len((await made.classify(["ok"], timeout=30)).predictions) == 1
    finally:
        made.close()
    assert "failed with ValueError" in caplog.text
    assert "secret" not in "".join(record.getMessage() for record in caplog.records)
