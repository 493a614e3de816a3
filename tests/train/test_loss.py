from __future__ import annotations

import numpy as np
import pytest
import torch

from bertie.config import TrainSettings
from bertie.train.loss import Loss, label_weights

CPU = torch.device("cpu")
ONE = np.eye(3, dtype=np.int64)[[0, 1, 2, 2, 2, 2, 2, 2, 2, 2]]
MANY = np.array([[1, 0], [1, 1], [1, 0], [1, 0], [1, 0]])


def test_the_parts_of_a_batch_add_up_to_the_batch() -> None:
    weights = label_weights(ONE, "single-label", TrainSettings(class_weights="balanced"))
    loss = Loss(ONE, "single-label", weights, CPU)
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    texts = np.arange(10)
    whole = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(ONE.argmax(axis=1)), weight=torch.from_numpy(weights)
    )
    summed = loss(logits[:4], texts[:4]) + loss(logits[4:], texts[4:])
    assert float(summed) / loss.weight(texts) == pytest.approx(float(whole), rel=1e-5)


def test_several_labels_use_binary_cross_entropy() -> None:
    loss = Loss(MANY, "multi-label", np.ones(2, dtype=np.float32), CPU)
    logits = torch.zeros(5, 2)
    texts = np.arange(5)
    assert float(loss(logits, texts)) / loss.weight(texts) == pytest.approx(np.log(2))


def test_auto_weighs_only_unbalanced_labels() -> None:
    auto = TrainSettings()
    assert label_weights(ONE[:4], "single-label", auto).tolist() == [1, 1, 1]
    weights = label_weights(ONE, "single-label", auto)
    assert weights[0] == weights[1] == pytest.approx(8 * weights[2])
    assert (weights[ONE.argmax(axis=1)]).mean() == pytest.approx(1)


def test_none_never_weighs_and_balanced_weighs_rare_labels_of_many() -> None:
    assert label_weights(ONE, "single-label", TrainSettings(class_weights="none")).tolist() == [1, 1, 1]
    assert label_weights(MANY, "multi-label", TrainSettings()).tolist() == [1, 1]
    assert label_weights(MANY, "multi-label", TrainSettings(class_weights="balanced")).tolist() == [1, 2]
