from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bertie.scores
from bertie.errors import BertieError
from bertie.scores import Decision, chosen, predictions, probabilities, sigmoid

THREE = Decision(("a", "b", "c"))
MANY = Decision(("a", "b", "c"), "multi-label", thresholds=(0.2, 0.5, 0.9))
LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=st.floats(-1e4, 1e4))


@given(LOGITS)
def test_softmax_gives_probabilities_however_far_the_logits_spread(logits: np.ndarray) -> None:
    scores = probabilities(logits, THREE)
    assert np.allclose(scores.sum(axis=1), 1)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores.max(axis=1) == np.take_along_axis(scores, logits.argmax(axis=1)[:, None], 1)[:, 0]).all()


@given(st.floats(-1e5, 1e5))
def test_sigmoid_never_overflows_and_is_symmetric(value: float) -> None:
    left, right = sigmoid(np.array([value])), sigmoid(np.array([-value]))
    assert left + right == pytest.approx(1)


@given(LOGITS, st.floats(0.1, 10))
def test_temperature_never_changes_the_label(logits: np.ndarray, temperature: float) -> None:
    warm = Decision(("a", "b", "c"), temperature=temperature)
    scores, plain = probabilities(logits, warm), probabilities(logits, THREE)
    best = scores.max(axis=1)
    assert np.allclose(np.take_along_axis(scores, plain.argmax(axis=1)[:, None], 1)[:, 0], best)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_is_an_error(bad: float) -> None:
    with pytest.raises(BertieError, match="not a finite number"):
        probabilities(np.array([[0.0, bad, 1.0]]), THREE)


def test_logits_of_another_shape_are_an_error() -> None:
    with pytest.raises(BertieError, match="shape"):
        probabilities(np.zeros((2, 4)), THREE)


def test_one_label_is_the_best_and_ties_go_to_the_first() -> None:
    answer = predictions(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), THREE)
    assert [prediction.label for prediction in answer] == ["b", "a"]
    assert answer[0].as_dict() == {"label": "b", "score": 0.5, "scores": {"a": 0.2, "b": 0.5, "c": 0.3}}


def test_several_labels_are_those_over_their_thresholds_best_first() -> None:
    scores = np.array([[0.3, 0.6, 0.8], [0.1, 0.4, 0.85]])
    some, none = predictions(scores, MANY)
    assert (some.label, some.labels, some.score) == ("b", ("b", "a"), 0.6)
    assert (none.label, none.labels, none.score) == (None, (), 0.85)
    assert chosen(scores, MANY).tolist() == [[True, True, False], [False, False, False]]


def test_softmax_and_sigmoid_stand_nowhere_else() -> None:
    """The decision is made in one place: no other module of the runtime takes powers of e."""
    source = Path(bertie.scores.__file__).parent
    powers = re.compile(r"np\.exp\(|softmax\(|\bsigmoid\(|logaddexp")
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if powers.search(path.read_text())}
    # calibrate.py searches the temperature on a logarithmic scale, attention.py and lean.py weigh tokens, loss.py
    # compares a student with its teacher, describe.py writes an example for other tools: none is a score.
    weighing = {"evaluate/calibrate.py", "train/attention.py", "export/lean.py", "train/loss.py"}
    assert found == {"scores.py", "export/targets/describe.py"} | weighing
