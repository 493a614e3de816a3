"""Where threads wake up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bertie.runtime.onnx_engine import OnnxEngine
from bertie.runtime.wake import IDLE_SECONDS, Workers, threads_now

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="needs Linux and two cores")


class Clock:
    """Stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def sleeping() -> Iterator[int]:
    """Give the number of a thread that waits."""
    told, end = threading.Event(), threading.Event()

    def wait() -> None:
        told.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    told.wait()
    assert thread.native_id is not None
    try:
        yield thread.native_id
    finally:
        end.set()
        thread.join()


def test_after_a_pause_a_thread_wakes_up_on_another_core_than_the_callers() -> None:
    clock = Clock()
    with sleeping() as thread:
        workers = Workers([thread], clock)
        for pause, cores in ((0.0, len(CORES) - 1), (IDLE_SECONDS / 2, len(CORES)), (IDLE_SECONDS, len(CORES) - 1)):
            clock.now += pause
            with workers.apart():
                assert len(os.sched_getaffinity(thread)) == cores
            assert os.sched_getaffinity(thread) == CORES


def test_it_is_the_callers_core_that_is_left_out() -> None:
    with sleeping() as thread:
        workers = Workers([thread])
        workers._core = lambda: min(CORES)  # the scheduler may move this thread at any time
        with workers.apart():
            assert os.sched_getaffinity(thread) == CORES - {min(CORES)}


def test_a_caller_that_may_use_one_core_changes_nothing() -> None:
    with sleeping() as thread:
        found = []

        def call() -> None:
            os.sched_setaffinity(0, {min(CORES)})
            with Workers([thread]).apart():
                found.append(os.sched_getaffinity(thread))

        caller = threading.Thread(target=call)
        caller.start()
        caller.join()
        assert found == [CORES]


def test_where_the_work_fails_the_cores_are_given_back() -> None:
    with sleeping() as thread:
        with pytest.raises(ValueError, match="failed"), Workers([thread]).apart():
            raise ValueError("failed")
        assert os.sched_getaffinity(thread) == CORES


def test_a_thread_that_has_ended_is_no_error() -> None:
    with sleeping() as thread:
        workers = Workers([thread])
    with workers.apart():
        assert thread not in threads_now()


def test_an_engine_knows_its_threads_and_keeps_them_off_the_callers_core(tiny_bundle: Path) -> None:
    engine = OnnxEngine(tiny_bundle / "model.onnx", 2)
    seen: list[int] = []
    threads = engine._workers._threads
    assert threads
    assert threads <= threads_now()
    given = {"input_ids": np.ones((4, 64), dtype=np.int64)}
    given |= {"attention_mask": given["input_ids"], "token_type_ids": np.zeros_like(given["input_ids"])}
    apart = engine._workers.apart

    @contextmanager
    def watched() -> Iterator[None]:
        with apart():
            seen.extend(len(os.sched_getaffinity(thread)) for thread in threads)
            yield

    engine._workers.apart = watched  # type: ignore[method-assign]  # to look in while it computes
    engine.run(given)
    assert set(seen) == {len(CORES) - 1}
    assert all(os.sched_getaffinity(thread) == CORES for thread in threads)
    assert not OnnxEngine(tiny_bundle / "model.onnx", 1)._workers._threads
