"""Temperature and thresholds, chosen on validation rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.errors import need
from bertie.evaluate.metrics import log_loss
from bertie.scores import Decision, chosen, probabilities


def calibrate(logits: NDArray[Any], targets: NDArray[np.int64], decision: Decision) -> Decision:
    """Return the decision with the temperature, and for several labels a text the thresholds, that fit these rows."""
    decision = replace(decision, temperature=temperature(logits, targets, decision), thresholds=())
    if decision.kind == "single-label":
        return decision
    return replace(decision, thresholds=thresholds(probabilities(logits, decision), targets))


def temperature(logits: NDArray[Any], targets: NDArray[np.int64], decision: Decision) -> float:
    """Return the temperature between 1/20 and 20 with the smallest log loss (Guo et al. 2017, arXiv 1706.04599).

    It is 1 where no row is wrong: such rows ask for endless confidence, and know nothing of rows to come.
    """
    try:
        from scipy.optimize import minimize_scalar  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("evaluate", error) from error

    def loss(log_temperature: float) -> float:
        tried = replace(decision, temperature=float(np.exp(log_temperature)))
        return log_loss(targets, probabilities(logits, tried), single=decision.kind == "single-label")

    plain = replace(decision, temperature=1.0, thresholds=())
    picked = chosen(probabilities(logits, plain), plain)
    if (picked == targets.astype(bool)).all():
        return 1.0
    bound = float(np.log(20))
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def thresholds(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> tuple[float, ...]:
    """Return for each label the threshold with the best F1 on these rows; 0.5 for a label that none of them has.

    It lies half-way between two neighbouring scores, so that rounding in another engine cannot flip a row.
    """
    return tuple(_threshold(score, truth) for score, truth in zip(scores.T, targets.T, strict=True))


def _threshold(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    if not 0 < truth.sum() < len(truth):
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + truth.sum())
    # Only between different scores can a threshold stand.
    apart = np.append(ranked[:-1] > ranked[1:], True)
    cuts = (ranked + np.append(ranked[1:], 0.0)) / 2
    best = f1[apart].max()
    candidates = cuts[apart & (f1 >= best - 1e-12)]
    return float(candidates[np.abs(candidates - 0.5).argmin()])
