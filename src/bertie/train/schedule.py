"""How often a set is passed over, and how the learning rate goes up and down meanwhile."""

from __future__ import annotations

import math

FEWEST_UPDATES = 600
"""Small sets are passed over more often: fine-tuning needs some hundred updates to settle (Mosbach et al. 2021).

With 600, CoLA is passed over five times, which is better than three, and the sample set twelve (docs/benchmarks.md).
"""

MOST_PASSES = 20


def default_passes(in_pass: int) -> int:
    """Return how many passes a set is trained on at most, of `in_pass` updates each, where nobody says it."""
    return min(MOST_PASSES, max(3, math.ceil(FEWEST_UPDATES / in_pass)))


def ramp(update: int, total: int, warmup_share: float, schedule: str = "linear") -> float:
    """Return the share of the peak learning rate: up in a line, then down as `schedule` says."""
    warmup = max(1, round(total * warmup_share))
    if update < warmup:
        return (update + 1) / warmup
    left = (total - update) / max(1, total - warmup + 1)
    return {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[schedule]
