"""What training minimizes: cross-entropy for one label a text, binary cross-entropy for several."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bertie.config import TrainSettings
from bertie.scores import Kind
from bertie.train.device import to_device

UNBALANCED = 3.0
"""`class_weights = "auto"` weighs labels where the commonest has more than this many times the rows of the rarest."""


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
        truth = self._targets[to_device(texts, self._targets.device)]
        if self._kind == "single-label":
            return functional.cross_entropy(logits, truth, weight=self._weights, reduction="sum")
        loss = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=self._weights, reduction="sum")
        return loss / logits.shape[1]

    def weight(self, texts: NDArray[np.int64]) -> float:
        """Return what the summed loss of these texts is to be divided by."""
        return float(self._weight_of_text[texts].sum())


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
