"""Accuracy, macro-F1 and MCC, each with a bootstrap interval. numpy alone, so that training can afford it each pass.

To resample n rows with replacement is to draw the cells of the confusion matrix from a multinomial distribution with
the observed shares, so thousands of resamples cost one call (Efron & Tibshirani 1993, chapter 13, percentile
interval). For several labels a text, whole rows are drawn, because the labels of a text belong together.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = NDArray[Any]
HEADLINES = ("accuracy", "macro_f1", "mcc")
RESAMPLES = 2000
ROWS_AT_ONCE = 2_000_000
"""Cells of the resampling weights held in memory at once."""


def headline(targets: NDArray[Any], picked: NDArray[Any], *, single: bool) -> dict[str, float]:
    """Return the three headline metrics of truth and choice, both [rows, labels] of 0 and 1."""
    if single:
        values = _from_confusion(confusion(targets, picked)[None])
    else:
        values = _from_rows(np.ones((1, len(targets))), targets, picked)
    return {name: float(value[0]) for name, value in values.items()}


def intervals(
    targets: NDArray[Any], picked: NDArray[Any], *, single: bool, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return for each headline its value and the bounds of its bootstrap interval."""
    random = np.random.default_rng(seed)
    resampled: list[dict[str, Counts]] = []
    rows = len(targets)
    if single:
        table = confusion(targets, picked)
        draws = random.multinomial(rows, table.ravel() / rows, size=RESAMPLES).reshape(RESAMPLES, *table.shape)
        resampled.append(_from_confusion(draws))
    else:
        at_once = max(1, ROWS_AT_ONCE // max(1, rows))
        for start in range(0, RESAMPLES, at_once):
            size = min(at_once, RESAMPLES - start)
            weights = random.multinomial(rows, np.full(rows, 1 / rows), size=size).astype(np.float64)
            resampled.append(_from_rows(weights, targets, picked))
    low, high = 50 * (1 - level), 50 * (1 + level)
    answer = {}
    for name, value in headline(targets, picked, single=single).items():
        draws_of = np.concatenate([part[name] for part in resampled])
        bounds = np.percentile(draws_of, [low, high])
        answer[name] = {"value": value, "low": float(bounds[0]), "high": float(bounds[1])}
    return answer


def confusion(targets: NDArray[Any], picked: NDArray[Any]) -> Counts:
    """Return the confusion matrix of a task with one label a text, [true label, predicted label]."""
    labels = targets.shape[1]
    cells = targets.argmax(axis=1) * labels + picked.argmax(axis=1)
    return np.bincount(cells, minlength=labels * labels).reshape(labels, labels)


def _from_confusion(tables: Counts) -> dict[str, Counts]:
    """Return the metrics of many confusion matrices, [tables, labels, labels]."""
    tables = tables.astype(np.float64)
    hits = np.diagonal(tables, axis1=1, axis2=2)
    truth, predicted, total = tables.sum(axis=2), tables.sum(axis=1), tables.sum(axis=(1, 2))
    # Matthews correlation for several classes: Gorodkin 2004, doi 10.1016/j.compbiolchem.2004.09.006.
    above = hits.sum(axis=1) * total - (truth * predicted).sum(axis=1)
    below = np.sqrt((total**2 - (predicted**2).sum(axis=1)) * (total**2 - (truth**2).sum(axis=1)))
    return {
        "accuracy": _ratio(hits.sum(axis=1), total),
        "macro_f1": _macro_f1(hits, predicted - hits, truth - hits),
        "mcc": _ratio(above, below),
    }


def _from_rows(weights: Counts, targets: NDArray[Any], picked: NDArray[Any]) -> dict[str, Counts]:
    """Return the metrics of a multi-label task for many weightings of its rows, [weightings, rows].

    Accuracy is that of whole rows; MCC is the mean over the labels.
    """
    truth, choice = targets.astype(np.float64), picked.astype(np.float64)
    hits = weights @ (truth * choice)
    extra = weights @ ((1 - truth) * choice)
    missed = weights @ (truth * (1 - choice))
    total = weights.sum(axis=1, keepdims=True)
    right = total - hits - extra - missed
    below = np.sqrt((hits + extra) * (hits + missed) * (right + extra) * (right + missed))
    exact = (truth == choice).all(axis=1).astype(np.float64)
    return {
        "accuracy": _ratio(weights @ exact, total[:, 0]),
        "macro_f1": _macro_f1(hits, extra, missed),
        "mcc": _ratio(hits * right - extra * missed, below).mean(axis=1),
    }


def _macro_f1(hits: Counts, extra: Counts, missed: Counts) -> Counts:
    """Return the mean F1 over the labels that occur in truth or prediction, as scikit-learn counts it."""
    present = (hits + extra + missed) > 0
    scores = _ratio(2 * hits, 2 * hits + extra + missed)
    return _ratio(scores.sum(axis=1), present.sum(axis=1))


def _ratio(above: Counts, below: Counts) -> Counts:
    """Return above / below, and 0 where nothing is below."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)
