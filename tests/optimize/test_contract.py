from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.optimize.contract import Budget, judge
from bertie.scores import Array, Decision

TWO = Decision(("a", "b"))
MANY = Decision(("a", "b"), "multi-label", thresholds=(0.5, 0.5))
BUDGET = Budget(max_drop=0.005, min_agreement=0.99)


def scores(first: list[float]) -> Array:
    return np.array([[value, 1 - value] for value in first])


def targets(labels: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.eye(2, dtype=np.int64)[labels]


def test_the_same_model_is_accepted() -> None:
    trained = scores([0.9, 0.2, 0.6, 0.1] * 30)
    verdict = judge(trained, trained, targets([0, 1, 1, 1] * 30), TWO, BUDGET)
    assert verdict.accepted
    assert (verdict.agreement, verdict.flips, verdict.max_shift, verdict.drop) == (1.0, 0, 0.0, 0.0)
    assert verdict.metric["low"] <= verdict.metric["value"] <= verdict.metric["high"]


def test_a_share_of_flips_over_the_budget_is_rejected_even_if_the_metric_rises() -> None:
    trained = scores([0.9] * 98 + [0.6, 0.6])
    better = scores([0.9] * 98 + [0.4, 0.4])
    truth = targets([0] * 98 + [1, 1])
    verdict = judge(trained, better, truth, TWO, BUDGET)
    assert verdict.drop < 0
    assert (verdict.accepted, verdict.flips) == (False, 2)
    assert "98.00 % agree" in verdict.why
    assert judge(trained, better, truth, TWO, Budget(0.005, 0.98)).accepted


def test_a_drop_over_the_budget_is_rejected_even_if_most_agree() -> None:
    trained = scores([0.9] * 990 + [0.1] * 10)
    worse = scores([0.9] * 990 + [0.1] * 6 + [0.9] * 4)
    truth = targets([0] * 990 + [1] * 10)
    verdict = judge(trained, worse, truth, TWO, BUDGET)
    assert verdict.agreement == pytest.approx(0.996)
    assert not verdict.accepted
    assert "macro-F1 is" in verdict.why
    assert "%" not in verdict.why
    assert judge(trained, worse, truth, TWO, Budget(0.5, 0.99)).accepted


def test_exactly_the_budget_is_accepted() -> None:
    trained = scores([0.9] * 50 + [0.1] * 50)
    one = scores([0.9] * 50 + [0.1] * 49 + [0.9])
    verdict = judge(trained, one, targets([0] * 50 + [1] * 49 + [0]), TWO, BUDGET)
    assert verdict.agreement == pytest.approx(0.99)
    assert verdict.accepted


def test_several_labels_a_text_agree_only_if_all_do() -> None:
    trained, other = np.array([[0.9, 0.9]] * 10), np.array([[0.9, 0.9]] * 9 + [[0.9, 0.4]])
    verdict = judge(trained, other, np.ones((10, 2), dtype=np.int64), MANY, BUDGET)
    assert verdict.flips == 1
    assert verdict.max_shift == pytest.approx(0.5)
    assert not verdict.accepted


@given(
    before=st.lists(st.floats(0, 1), min_size=1, max_size=50),
    shift=st.floats(-0.2, 0.2),
)
def test_figures_are_what_they_say(before: list[float], shift: float) -> None:
    trained = scores(before)
    other = np.clip(trained + np.array([shift, -shift]), 0, 1)
    verdict = judge(trained, other, targets([0] * len(before)), TWO, BUDGET)
    flips = int((trained.argmax(axis=1) != other.argmax(axis=1)).sum())
    assert verdict.flips == flips
    assert verdict.agreement == pytest.approx(1 - flips / len(before))
    assert 0 <= verdict.max_shift <= abs(shift) + 1e-12


def test_scores_that_are_no_numbers_agree_with_nothing() -> None:
    trained = scores([0.9] * 1000)
    broken = trained.copy()
    broken[:5] = np.nan
    truth = targets([0] * 1000)
    verdict = judge(trained, broken, truth, TWO, BUDGET)
    assert (verdict.accepted, verdict.flips) == (False, 5)
    assert "the scores of 5 texts are no numbers" in verdict.why
    json.dumps(verdict.as_dict(), allow_nan=False)
    rows = np.arange(0, 1000, 10)
    verdict = judge(trained, trained, truth, TWO, BUDGET, (rows, broken[:100]))
    assert verdict.agreement_alone == pytest.approx(0.95)
    assert not verdict.accepted


def test_texts_scored_one_at_a_time_count_as_those_scored_together() -> None:
    trained = scores([0.9] * 50 + [0.1] * 50)
    truth = targets([0] * 50 + [1] * 50)
    rows = np.arange(0, 100, 2)
    alone = trained[rows].copy()
    assert judge(trained, trained, truth, TWO, BUDGET, (rows, alone)).accepted
    alone[3] = alone[3][::-1]
    verdict = judge(trained, trained, truth, TWO, BUDGET, (rows, alone))
    assert (verdict.accepted, verdict.flips, verdict.agreement, verdict.agreement_alone) == (False, 0, 0.98, 0.98)
    assert verdict.why == "98.00 % of 50 texts scored one at a time agree; at least 99 % must"
