from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from benchmarks.serving.capacity import BACK, NEAR, TRIES, holds, sustainable
from hypothesis import given
from hypothesis import strategies as st


def report(rate: float, *, p99: float = 10.0, **others: Any) -> dict[str, Any]:
    return {"sent": 1000, "statuses": {"200": 1000}, "hangs": 0, "differ": 0, "ms": {"p99": p99}, "rate": rate} | others


def server(limit: float) -> Any:
    """A server that bears everything up to a limit."""
    return lambda rate, longer: report(rate, p99=10.0 if rate <= limit else 80.0)


GOOD = partial(holds, p99_ms=50)


@given(limit=st.floats(1, 1e5), first=st.floats(1, 1e5))
def test_the_rate_found_is_near_what_the_server_bears(limit: float, first: float) -> None:
    found = sustainable(server(limit), GOOD, first)
    assert limit / NEAR <= found["rate"] <= limit
    assert found["confirmed"]["longer"]
    assert found["confirmed"]["rate"] == found["rate"]


def test_what_short_runs_bear_and_a_longer_one_does_not_is_lowered() -> None:
    found = sustainable(
        lambda rate, longer: report(rate, p99=10.0 if rate <= (800 if longer else 1000) else 80.0), GOOD, 500
    )
    assert 800 * BACK <= found["rate"] <= 800


def test_a_rate_that_is_never_confirmed_is_no_rate() -> None:
    found = sustainable(lambda rate, longer: report(rate, p99=80.0 if longer or rate > 100 else 10.0), GOOD, 100)
    assert (found["rate"], found["confirmed"]) == (0.0, None)
    assert sum(step["longer"] for step in found["steps"]) == TRIES


def test_a_server_that_bears_nothing_ends_the_search() -> None:
    assert sustainable(server(0), GOOD, 300)["rate"] == 0.0


@pytest.mark.parametrize(
    "others",
    [
        {"p99": 50.1},
        {"hangs": 1},
        {"statuses": {"200": 998, "429": 2}},
        {"statuses": {"200": 998}},
        {"statuses": {"429": 1000}, "ms": {}},
        {"differ": 11},
    ],
)
def test_each_fault_alone_is_too_much(others: dict[str, Any]) -> None:
    assert GOOD(report(1, p99=50.0, differ=9, statuses={"200": 999, "429": 1}))
    assert not GOOD(report(1, **others))
