"""How many requests a second a server bears: bisection over the rate, and a longer run that confirms it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GROWTH = 1.5
NEAR = 1.05
"""Bisection ends where the rate that is borne and the one that is not are so near each other."""
BACK = 0.95
TRIES = 8
"""A rate that is not confirmed is lowered by so much, so many times."""
MOST = 1e6
"""Requests a second at which growing ends: no server here comes near it."""


def holds(report: dict[str, Any], *, p99_ms: float, share: float = 0.001, differ: float = 0.01) -> bool:
    """Return whether a server bears a rate.

    The 99th percentile is kept, at most `share` of the requests got something else than 200, none hangs, and at most
    `differ` of the labels are others than those of the text alone (numbers round otherwise in batches; a mix-up of
    answers would be far above that).
    """
    good = report["statuses"].get("200", 0)
    return bool(
        good
        and not report["hangs"]
        and report["sent"] - good <= share * report["sent"]
        and report["differ"] <= differ * good
        and report["ms"]["p99"] <= p99_ms
    )


def sustainable(
    measure: Callable[[float, bool], dict[str, Any]], good: Callable[[dict[str, Any]], bool], first: float
) -> dict[str, Any]:
    """Return the highest rate that a server bears, with all steps.

    `measure(rate, longer)` runs a load; `good` judges it. `rate` is 0 where not even a request a second is borne.
    """
    steps: list[dict[str, Any]] = []

    def borne(rate: float, *, longer: bool = False) -> bool:
        steps.append(measure(rate, longer) | {"longer": longer})
        steps[-1]["good"] = good(steps[-1])
        return bool(steps[-1]["good"])

    low, high = _bracket(borne, first)
    while low and high / low > NEAR:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if borne(middle) else (low, middle)
    for _ in range(TRIES):
        if not low or borne(low, longer=True):
            break
        low *= BACK
    else:
        low = 0.0
    return {"rate": low, "confirmed": steps[-1] if low else None, "steps": steps}


def _bracket(borne: Callable[[float], bool], first: float) -> tuple[float, float]:
    """Return a rate that is borne, and one that is not."""
    if borne(first):
        low = first
        while low < MOST and borne(low * GROWTH):
            low *= GROWTH
        return low, low * GROWTH
    high = first
    while high >= 1:
        if borne(high / GROWTH):
            return high / GROWTH, high
        high /= GROWTH
    return 0.0, high
