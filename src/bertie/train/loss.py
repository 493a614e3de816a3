"""What training minimizes: cross-entropy for one label a text, binary for several, or a teacher's answers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bertie.config import TrainSettings
from bertie.scores import Kind
from bertie.train.device import to_device
from bertie.train.job import Job
from bertie.train.soft import Soft

UNBALANCED = 3.0
"""`class_weights = "auto"` weighs labels where the commonest has more than this many times the rows of the rarest."""


class Objective(Protocol):
    """A loss, summed over texts so that the parts of a batch add up."""

    def __call__(self, logits: Tensor, texts: NDArray[np.int64]) -> Tensor:
        """Return the summed loss, a scalar, of `logits` [texts, labels]."""
        ...

    def weight(self, texts: NDArray[np.int64]) -> float:
        """Return what the summed loss of these texts is to be divided by."""
        ...


class Loss:
    """The loss of the texts of one set, summed so that the parts of a batch add up."""

    def __init__(
        self, targets: NDArray[np.int64], kind: Kind, weights: NDArray[np.float32], device: torch.device
    ) -> None:
        self._kind = kind
        self._weights = torch.from_numpy(weights).to(device)
        if kind == "single-label":
            self._targets = torch.from_numpy(targets.argmax(axis=1)).to(device)
            self._weight_of_text = weights[targets.argmax(axis=1)]
        else:
            self._targets = torch.from_numpy(targets.astype(np.float32)).to(device)
            self._weight_of_text = np.ones(len(targets), dtype=np.float32)

    def __call__(self, logits: Tensor, texts: NDArray[np.int64]) -> Tensor:
        """Return the summed loss, a scalar, of `logits` [texts, labels]."""
        return self._loss(logits, texts, "sum")

    def each(self, logits: Tensor, texts: NDArray[np.int64]) -> Tensor:
        """Return the loss of each text, [texts]."""
        found = self._loss(logits, texts, "none")
        return found if self._kind == "single-label" else found.sum(dim=1)

    def _loss(self, logits: Tensor, texts: NDArray[np.int64], reduction: str) -> Tensor:
        truth = self._targets[to_device(texts, self._targets.device)]
        if self._kind == "single-label":
            return functional.cross_entropy(logits, truth, weight=self._weights, reduction=reduction)
        loss = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=self._weights, reduction=reduction)
        return loss / logits.shape[1]

    def weight(self, texts: NDArray[np.int64]) -> float:
        """Return what the summed loss of these texts is to be divided by."""
        return float(self._weight_of_text[texts].sum())


class Distillation:
    """The distance to a teacher's answers, mixed with the loss of the labels where a text has some.

    One label a text: T² KL(teacher || student) of the softmax at temperature T; T² keeps the gradients as large as
    those of the labels (Hinton et al. 2015, arXiv 1503.02531, section 2). Several: binary cross-entropy against the
    teacher's probabilities, less its least value, so that a student who agrees has loss 0; T as above.
    """

    def __init__(self, hard: Loss, soft: Soft, kind: Kind, device: torch.device) -> None:
        self._hard, self._kind, self._temperature = hard, kind, soft.temperature
        self._teacher = torch.from_numpy(soft.logits).to(device)
        shares = np.where(np.arange(len(soft.logits)) < soft.labelled, soft.share, 1.0)
        self._shares = torch.from_numpy(shares.astype(np.float32)).to(device)

    def __call__(self, logits: Tensor, texts: NDArray[np.int64]) -> Tensor:
        """Return the summed loss, a scalar, of `logits` [texts, labels]."""
        places = to_device(texts, self._shares.device)
        share = self._shares[places]
        found = share * self._distance(logits / self._temperature, self._teacher[places] / self._temperature)
        return (found + (1 - share) * self._hard.each(logits, texts)).sum()

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return how far the student is from the teacher, [texts]; both [texts, labels], divided by the temperature."""
        if self._kind == "single-label":
            logs = functional.log_softmax(teacher, dim=1)
            distance = (logs.exp() * (logs - functional.log_softmax(student, dim=1))).sum(dim=1)
        else:
            wanted = teacher.sigmoid()
            entropy = functional.binary_cross_entropy_with_logits
            distance = (entropy(student, wanted, reduction="none") - entropy(teacher, wanted, reduction="none")).mean(1)
        return self._temperature**2 * distance

    def weight(self, texts: NDArray[np.int64]) -> float:
        """Return what the summed loss of these texts is to be divided by."""
        return float(len(texts))


def objective(job: Job, device: torch.device) -> Objective:
    """Return what a training minimizes: the loss of its labels, mixed with a teacher's answers where there is one."""
    targets, kind = job.train.targets(job.labels), job.train.kind
    labelled = targets if job.soft is None else targets[: job.soft.labelled]
    hard = Loss(targets, kind, label_weights(labelled, kind, job.settings), device)
    return hard if job.soft is None else Distillation(hard, job.soft, kind, device)


def label_weights(targets: NDArray[np.int64], kind: Kind, settings: TrainSettings) -> NDArray[np.float32]:
    """Return how much each label weighs in the loss, [labels].

    For one label a text: inverse to its frequency, with mean 1 over the texts (King & Zeng 2001). For several labels
    a text, only where asked for: the weight of a label's positive rows is the root of negatives / positives, because
    the full ratio drowns precision, and the thresholds chosen on validation rows already make up for rare labels.
    """
    counts = np.maximum(targets.sum(axis=0), 1).astype(np.float32)
    even = np.ones(len(counts), dtype=np.float32)
    if settings.class_weights == "none":
        return even
    if kind == "multi-label":
        ratios = (len(targets) - counts) / counts
        return np.sqrt(np.maximum(ratios, 1.0)).astype(np.float32) if settings.class_weights == "balanced" else even
    if settings.class_weights == "auto" and counts.max() <= UNBALANCED * counts.min():
        return even
    return np.asarray(len(targets) / (len(counts) * counts), dtype=np.float32)
