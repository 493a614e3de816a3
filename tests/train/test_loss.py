from __future__ import annotations

import numpy as np
import pytest
import torch

from bertie.config import TrainSettings
from bertie.scores import Kind
from bertie.train.loss import Distillation, Loss, label_weights
from bertie.train.soft import Soft

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


def logits(rows: int, labels: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, labels, generator=torch.Generator().manual_seed(seed))


def distillation(kind: Kind, teacher: torch.Tensor, labelled: int, temperature: float, share: float) -> Distillation:
    targets = ONE[:4] if kind == "single-label" else MANY[:4]
    hard = Loss(targets, kind, np.ones(targets.shape[1], dtype=np.float32), CPU)
    return Distillation(hard, Soft(teacher.numpy(), labelled, temperature, share), kind, CPU)


TEXTS = np.arange(4)


def test_a_teacher_is_learned_at_a_temperature() -> None:
    teacher, student = logits(4, 3, 0), logits(4, 3, 1)
    loss = distillation("single-label", teacher, 4, 3.0, 1.0)
    wanted = torch.nn.functional.kl_div(
        (student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean"
    ) * (3.0**2)
    assert float(loss(student, TEXTS)) / loss.weight(TEXTS) == pytest.approx(float(wanted), rel=1e-5)


def test_a_teacher_of_several_labels_is_learned_by_their_probabilities() -> None:
    teacher, student = logits(4, 2, 0), logits(4, 2, 1).requires_grad_()
    loss = distillation("multi-label", teacher, 4, 1.0, 1.0)
    (found,) = torch.autograd.grad(loss(student, TEXTS) / loss.weight(TEXTS), student)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(student, teacher.sigmoid())
    (wanted,) = torch.autograd.grad(entropy, student)
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_who_agrees_has_nothing_to_learn_and_who_does_not_has(kind: Kind) -> None:
    teacher = logits(4, 3 if kind == "single-label" else 2, 0)
    loss = distillation(kind, teacher, 4, 2.0, 1.0)
    assert float(loss(teacher, TEXTS)) == pytest.approx(0, abs=1e-6)
    assert float(loss(-teacher, TEXTS)) > 0.1


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_labels_have_their_share_and_texts_without_them_none(kind: Kind) -> None:
    columns = 3 if kind == "single-label" else 2
    teacher, student = logits(4, columns, 0), logits(4, columns, 1)
    targets = ONE[:4] if kind == "single-label" else MANY[:4]
    hard = Loss(targets, kind, np.ones(columns, dtype=np.float32), CPU)
    soft = distillation(kind, teacher, 4, 2.0, 1.0)
    mixed = distillation(kind, teacher, 2, 2.0, 0.25)
    first, last = TEXTS[:2], TEXTS[2:]
    assert float(mixed(student[:2], first)) == pytest.approx(
        0.25 * float(soft(student[:2], first)) + 0.75 * float(hard(student[:2], first)), rel=1e-5
    )
    assert float(mixed(student[2:], last)) == pytest.approx(float(soft(student[2:], last)), rel=1e-5)
    alone = distillation(kind, teacher, 4, 2.0, 0.0)
    assert float(alone(student, TEXTS)) == pytest.approx(float(hard(student, TEXTS)), rel=1e-5)
