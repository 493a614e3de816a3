"""Logits become probabilities become labels here, and nowhere else.

The only softmax, sigmoid, temperature and threshold of the project.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertie.errors import BertieError

Array: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["single-label", "multi-label"]


@dataclass(frozen=True)
class Decision:
    """How a model's logits are read: what kind of task, at which temperature, over which thresholds."""

    labels: tuple[str, ...]
    kind: Kind = "single-label"
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    """One for each label; used by multi-label tasks alone."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one text.

    `label` is the chosen label and `score` its probability. In a multi-label task `labels` holds every label over
    its threshold, best first; `label` is the first of them, or None where no label is over its threshold, and
    `score` is then the highest probability of all.
    """

    label: str | None
    score: float
    scores: dict[str, float]
    labels: tuple[str, ...] | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return what goes over the wire; `labels` only where several are possible."""
        answer: dict[str, Any] = {"label": self.label, "score": self.score, "scores": self.scores}
        return answer if self.labels is None else answer | {"labels": list(self.labels)}


def probabilities(logits: NDArray[Any], decision: Decision) -> Array:
    """Return probabilities of shape [rows, labels].

    Softmax of logits / temperature for one label a text, sigmoid for several (Guo et al. 2017, arXiv 1706.04599, for
    the temperature). Raises BertieError where a logit is not a number: a damaged model must not look confident.
    """
    scaled: Array = np.asarray(logits, dtype=np.float64)
    if scaled.ndim != 2 or scaled.shape[1] != len(decision.labels):
        raise BertieError(f"the model gave scores of shape {scaled.shape} for {len(decision.labels)} labels.")
    if not np.isfinite(scaled).all():
        raise BertieError("the model gave a score that is not a finite number.", hint="train or export it again")
    scaled = scaled / decision.temperature
    if decision.kind == "multi-label":
        return sigmoid(scaled)
    # Shifted by the row's maximum, so that exp never overflows however far the logits spread.
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(values: Array) -> Array:
    """Return 1 / (1 + e^-v) without overflow at either end."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -values)))


def chosen(scores: Array, decision: Decision) -> NDArray[np.bool_]:
    """Return which labels are chosen, shape [rows, labels]: the best one, or each over its threshold."""
    if decision.kind == "multi-label":
        thresholds = decision.thresholds or (0.5,) * len(decision.labels)
        return scores >= np.asarray(thresholds)
    picked = np.zeros(scores.shape, dtype=np.bool_)
    picked[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return picked


def predictions(scores: Array, decision: Decision) -> list[Prediction]:
    """Return one Prediction for each row of probabilities."""
    if decision.kind == "single-label":
        # Lists, because argmax lets go of the interpreter, which in a server the model's thread then takes.
        rows = [(row, max(row)) for row in scores.tolist()]
        labels = decision.labels
        return [Prediction(labels[row.index(best)], best, dict(zip(labels, row, strict=True))) for row, best in rows]
    picked = chosen(scores, decision)
    return [_several(row, mask, decision) for row, mask in zip(scores, picked, strict=True)]


def _several(row: Array, mask: NDArray[np.bool_], decision: Decision) -> Prediction:
    scores = dict(zip(decision.labels, row.tolist(), strict=True))
    order = np.argsort(-row, kind="stable")
    over = tuple(decision.labels[index] for index in order if mask[index])
    return Prediction(over[0] if over else None, scores[over[0]] if over else float(row.max()), scores, over)
