"""Everything measured about a model on one labelled set, from its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.errors import need
from bertie.evaluate.headline import confusion, intervals
from bertie.scores import Array, Decision, chosen

CALIBRATION_BINS = 15


def measure(targets: NDArray[np.int64], scores: Array, decision: Decision) -> dict[str, Any]:
    """Return headline metrics with intervals, metrics a label, ranking and calibration metrics, and the confusion.

    `targets` and `scores` are [rows, labels]. AUROC is None for a label that all rows or no row has.
    """
    picked = chosen(scores, decision)
    single = decision.kind == "single-label"
    measured: dict[str, Any] = {"n": len(targets)}
    measured |= intervals(targets, picked, single=single)
    aurocs = _aurocs(targets, scores)
    known = [value for value in aurocs if value is not None]
    measured["auroc"] = float(np.mean(known)) if known else None
    measured["log_loss"] = log_loss(targets, scores, single=single)
    measured["ece"] = calibration_error(targets, scores, picked, single=single)
    measured["per_label"] = _per_label(targets, picked, aurocs, decision.labels)
    if single:
        measured["confusion"] = confusion(targets, picked).tolist()
    return measured


def log_loss(targets: NDArray[np.int64], scores: Array, *, single: bool) -> float:
    """Return the mean negative log-likelihood of the truth; for several labels a text, the mean over labels too."""
    safe = np.clip(scores, 1e-15, 1 - 1e-15)
    if single:
        return float(-np.log(safe[targets.astype(bool)]).mean())
    return float(-(targets * np.log(safe) + (1 - targets) * np.log1p(-safe)).mean())


def reliability(
    targets: NDArray[np.int64], scores: Array, picked: NDArray[np.bool_], *, single: bool
) -> list[dict[str, float]]:
    """Return the bins of the reliability diagram: mean confidence, share that was right, rows.

    For one label a text the confidence is that of the chosen label; for several it is that of each label.
    """
    if single:
        confidence, right = scores.max(axis=1), (targets.astype(bool) & picked).any(axis=1)
    else:
        confidence, right = scores.ravel(), targets.astype(bool).ravel()
    right = np.asarray(right)
    places = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        bins.append(
            {
                "confidence": float(confidence[inside].mean()),
                "right": float(right[inside].mean()),
                "rows": int(inside.sum()),
            }
        )
    return bins


def calibration_error(targets: NDArray[np.int64], scores: Array, picked: NDArray[np.bool_], *, single: bool) -> float:
    """Return the expected calibration error over equal-width bins (Naeini et al. 2015, Guo et al. 2017)."""
    bins = reliability(targets, scores, picked, single=single)
    rows = sum(part["rows"] for part in bins)
    return sum(part["rows"] * abs(part["confidence"] - part["right"]) for part in bins) / rows


def _aurocs(targets: NDArray[np.int64], scores: Array) -> list[float | None]:
    try:
        from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("evaluate", error) from error
    columns = zip(targets.T, scores.T, strict=True)
    return [float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else None for truth, score in columns]


def _per_label(
    targets: NDArray[np.int64], picked: NDArray[np.bool_], aurocs: list[float | None], labels: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    from sklearn.metrics import precision_recall_fscore_support  # noqa: PLC0415 - an extra

    precision, recall, f1, support = precision_recall_fscore_support(
        targets, picked.astype(int), average=None, zero_division=0.0
    )
    return {
        label: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "auroc": aurocs[index],
            "support": int(support[index]),
        }
        for index, label in enumerate(labels)
    }
