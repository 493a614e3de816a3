from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from bertie.evaluate.calibrate import calibrate, temperature, thresholds
from bertie.evaluate.metrics import log_loss
from bertie.scores import Decision, probabilities

TWO = Decision(("a", "b"))
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(3000, 2)) * 2
TRUTH = np.eye(2, dtype=np.int64)[[int(RANDOM.choice(2, p=row)) for row in probabilities(LOGITS, TWO)]]


@pytest.mark.parametrize("boast", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_boasting(boast: float) -> None:
    assert temperature(LOGITS * boast, TRUTH, TWO) == pytest.approx(boast, rel=0.1)


def test_the_temperature_never_makes_the_loss_worse() -> None:
    found = calibrate(LOGITS * 3, TRUTH, TWO)
    before = log_loss(TRUTH, probabilities(LOGITS * 3, TWO), single=True)
    assert log_loss(TRUTH, probabilities(LOGITS * 3, found), single=True) < before


def test_rows_without_an_error_ask_for_no_temperature() -> None:
    truth = np.eye(2, dtype=np.int64)[LOGITS.argmax(axis=1)]
    assert temperature(LOGITS, truth, TWO) == 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=2, max_size=40))
def test_a_threshold_has_the_best_f1_of_all(rows: list[tuple[float, int]]) -> None:
    scores, truth = (np.asarray(part) for part in zip(*rows, strict=True))
    found = thresholds(scores[:, None], truth[:, None])[0]
    assert 0 <= found <= 1
    if 0 < truth.sum() < len(truth):
        best = max(f1_score(truth, scores >= cut) for cut in np.unique(scores))
        assert f1_score(truth, scores >= found) == pytest.approx(best)
    else:
        assert found == 0.5


def test_one_label_a_text_has_no_thresholds_and_several_have_one_each() -> None:
    many = Decision(("a", "b"), "multi-label")
    assert calibrate(LOGITS, TRUTH, TWO).thresholds == ()
    assert len(calibrate(LOGITS, TRUTH, many).thresholds) == 2
