from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from bertie.errors import BertieError, RequestError, RequestInvalid
from bertie.scores import Prediction
from bertie.serve.wire import tei
from bertie.serve.wire.exchange import Found, Limits
from tests.serve.wire.test_invocations import JSON


def answer(value: object, *, pairs: bool = False) -> Any:
    ask = tei.read(json.dumps(value).encode(), Limits(pairs, 100))
    count = len(ask.texts)
    one = Prediction("b", 0.75, {"a": 0.25, "b": 0.75})
    found = Found([one] * count, np.asarray([[-1.0, 2.0]] * count, np.float32), ("a", "b"))
    return ask.texts, json.loads(ask.reply(found).body)


def test_one_text_gets_one_list_of_all_labels_the_best_first() -> None:
    best_first = [{"score": 0.75, "label": "b"}, {"score": 0.25, "label": "a"}]
    assert answer({"inputs": "x"}) == (["x"], best_first)
    assert answer({"inputs": ["x"]}) == (["x"], best_first)
    assert answer({"inputs": [["x"], ["y"]]}) == (["x", "y"], [best_first] * 2)


def test_pairs_are_lists_of_two() -> None:
    assert answer({"inputs": ["x", "y"]}, pairs=True)[0] == [("x", "y")]
    assert answer({"inputs": [["x", "y"], ["z", "w"]]}, pairs=True)[0] == [("x", "y"), ("z", "w")]
    for wrong in ("x", ["x"], [["x", "y"], ["z"]]):
        with pytest.raises(RequestInvalid, match="reads pairs"):
            answer({"inputs": wrong}, pairs=True)
    with pytest.raises(RequestInvalid, match="reads single texts"):
        answer({"inputs": ["x", "y"]})


def test_raw_scores_are_logits() -> None:
    assert answer({"inputs": "x", "raw_scores": True})[1][0] == {"score": 2.0, "label": "b"}


@pytest.mark.parametrize("value", [{}, [], "x", {"inputs": []}, {"inputs": ""}, {"inputs": "x", "raw_scores": 1}])
def test_other_shapes_are_refused(value: object) -> None:
    with pytest.raises(RequestError) as caught:
        answer(value)
    assert caught.value.http_status == 422


@given(JSON)
def test_any_json_is_read_or_refused_with_our_own_error(value: object) -> None:
    for pairs in (False, True):
        try:
            texts, found = answer({"inputs": value}, pairs=pairs)
        except BertieError as error:
            assert 400 <= error.http_status < 500
        else:
            assert texts
            assert found
