from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from bertie.evaluate.headline import HEADLINES, headline, intervals

# scikit-learn warns where a label occurs alone; the property is about just such cases too.
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")

LABELS = 4
ANSWERS = st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS - 1)), min_size=1, max_size=60)
ROWS = st.lists(
    st.tuples(*(st.lists(st.integers(0, 1), min_size=LABELS, max_size=LABELS) for _ in range(2))),
    min_size=1,
    max_size=40,
)


def one_hot(answers: list[int]) -> NDArray[np.int64]:
    return np.eye(LABELS, dtype=np.int64)[answers]


@given(ANSWERS)
def test_one_label_a_text_agrees_with_scikit_learn(answers: list[tuple[int, int]]) -> None:
    truth, picked = map(list, zip(*answers, strict=True))
    found = headline(one_hot(truth), one_hot(picked), single=True)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, picked))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, picked, average="macro", zero_division=0.0))
    assert found["mcc"] == pytest.approx(matthews_corrcoef(truth, picked))


@given(ROWS)
@settings(deadline=None)
def test_several_labels_a_text_agree_with_scikit_learn(rows: list[tuple[list[int], list[int]]]) -> None:
    truth, picked = (np.asarray(part) for part in zip(*rows, strict=True))
    found = headline(truth, picked, single=False)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, picked))
    occurring = (truth + picked).any(axis=0)
    f1 = f1_score(truth, picked, average=None, zero_division=0.0)[occurring]
    assert found["macro_f1"] == pytest.approx(f1.mean() if occurring.any() else 0.0)
    mcc = [matthews_corrcoef(truth[:, label], picked[:, label]) for label in range(LABELS)]
    assert found["mcc"] == pytest.approx(np.mean(mcc))


def answers(rows: int, right: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    truth = random.integers(LABELS, size=rows)
    picked = np.where(random.random(rows) < right, truth, random.integers(LABELS, size=rows))
    return one_hot(truth.tolist()), one_hot(picked.tolist())


@pytest.mark.parametrize("single", [True, False])
def test_an_interval_holds_its_value_and_shrinks_with_more_rows(single: bool) -> None:
    few, many = (intervals(*answers(rows, 0.7), single=single) for rows in (50, 2000))
    for name in HEADLINES:
        for found in (few, many):
            assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
        assert many[name]["high"] - many[name]["low"] < 0.5 * (few[name]["high"] - few[name]["low"])


def test_drawing_cells_is_drawing_rows() -> None:
    """The multinomial over the confusion matrix against the bootstrap as the books write it."""
    truth, picked = answers(150, 0.7)
    random = np.random.default_rng(1)
    drawn: list[dict[str, Any]] = []
    for _ in range(2000):
        rows = random.integers(150, size=150)
        drawn.append(headline(truth[rows], picked[rows], single=True))
    for name, found in intervals(truth, picked, single=True).items():
        low, high = np.percentile([one[name] for one in drawn], [2.5, 97.5])
        assert found["low"] == pytest.approx(low, abs=0.015)
        assert found["high"] == pytest.approx(high, abs=0.015)


def test_the_interval_is_the_same_twice() -> None:
    assert intervals(*answers(80, 0.6), single=True) == intervals(*answers(80, 0.6), single=True)
