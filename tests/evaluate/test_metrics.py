from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from bertie.evaluate.metrics import calibration_error, log_loss, measure, reliability
from bertie.scores import Decision, chosen

THREE = Decision(("a", "b", "c"))
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.dirichlet([1, 1, 1], size=200)
TRUTH = np.eye(3, dtype=np.int64)[[int(RANDOM.choice(3, p=row)) for row in SCORES]]


def test_everything_that_is_promised_is_there() -> None:
    found = measure(TRUTH, SCORES, THREE)
    assert found["n"] == 200
    assert {"accuracy", "macro_f1", "mcc", "auroc", "log_loss", "ece", "per_label", "confusion"} <= found.keys()
    assert sum(map(sum, found["confusion"])) == 200
    assert sum(one["support"] for one in found["per_label"].values()) == 200
    assert found["auroc"] == pytest.approx(roc_auc_score(TRUTH, SCORES, average="macro"))
    assert found["log_loss"] == pytest.approx(sklearn_log_loss(TRUTH, SCORES))


def test_a_label_that_no_row_has_gets_no_auroc() -> None:
    rows = TRUTH[:, 2] == 0
    found = measure(TRUTH[rows], SCORES[rows], THREE)
    assert found["per_label"]["c"]["auroc"] is None
    assert found["per_label"]["a"]["auroc"] is not None
    assert found["auroc"] is not None


def test_a_sure_and_wrong_score_costs_much_but_not_endlessly() -> None:
    wrong = np.array([[1.0, 0.0, 0.0]])
    assert 30 < log_loss(np.array([[0, 1, 0]]), wrong, single=True) < 40


def test_honest_probabilities_have_a_small_calibration_error_and_boasting_ones_a_large() -> None:
    honest = calibration_error(TRUTH, SCORES, chosen(SCORES, THREE), single=True)
    boasting = SCORES**6 / (SCORES**6).sum(axis=1, keepdims=True)
    boasted = calibration_error(TRUTH, boasting, chosen(boasting, THREE), single=True)
    assert honest < 0.08
    assert boasted > 0.15


def test_the_bins_of_the_diagram_hold_every_row_once() -> None:
    bins = reliability(TRUTH, SCORES, chosen(SCORES, THREE), single=True)
    assert sum(part["rows"] for part in bins) == 200
    assert all(0 <= part["right"] <= 1 for part in bins)
    many = Decision(("a", "b", "c"), "multi-label")
    assert sum(part["rows"] for part in reliability(TRUTH, SCORES, chosen(SCORES, many), single=False)) == 600


def test_several_labels_a_text_have_no_confusion_matrix() -> None:
    found = measure(TRUTH, SCORES, Decision(("a", "b", "c"), "multi-label", thresholds=(0.3, 0.3, 0.3)))
    assert "confusion" not in found
    assert found["log_loss"] == pytest.approx(
        float(np.mean([sklearn_log_loss(TRUTH[:, k], SCORES[:, k]) for k in range(3)]))
    )
