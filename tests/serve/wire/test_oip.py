from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import BertieError, RequestError, RequestInvalid
from bertie.scores import Prediction
from bertie.serve.wire import oip
from bertie.serve.wire.exchange import Ask, Found, Limits
from tests.serve.wire.test_invocations import JSON


def tensor(*texts: str, name: str = "text", **fields: object) -> dict[str, Any]:
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)} | fields


def read(value: object, rest: bytes = b"", *, pairs: bool = False) -> Ask:
    head = json.dumps(value).encode()
    return oip.read(head + rest, str(len(head)) if rest else "", "model", Limits(pairs, 100))


def answer(value: object) -> Any:
    ask = read(value)
    count = len(ask.texts)
    one = Prediction("b", 0.75, {"a": 0.25, "b": 0.75})
    found = Found([one] * count, np.asarray([[-1.0, 2.0]] * count, np.float32), ("a", "b"))
    return json.loads(ask.reply(found).body)


def test_texts_come_in_flat_or_nested() -> None:
    assert read({"inputs": [tensor("x", "y")]}).texts == ["x", "y"]
    assert read({"inputs": [tensor(shape=[2, 1], data=[["x"], ["y"]])]}).texts == ["x", "y"]
    assert read({"inputs": [tensor("x", shape=[1, 1])], "id": None, "more": 1}).texts == ["x"]


def test_pairs_are_two_tensors() -> None:
    both = [tensor("b", name="text_pair"), tensor("a")]
    assert read({"inputs": both}, pairs=True).texts == [("a", "b")]
    for wrong in ([tensor("a")], [tensor("a"), tensor("b", "c", name="text_pair")]):
        with pytest.raises(RequestInvalid, match="text and text_pair"):
            read({"inputs": wrong}, pairs=True)


def test_binary_tensors_follow_the_json() -> None:
    rest = b"".join(struct.pack("<I", len(raw)) + raw for raw in ("é".encode(), b"y"))
    one = {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(rest)}}
    assert read({"inputs": [one]}, rest).texts == ["é", "y"]
    for broken in (rest[:-1], rest + b"\x01", struct.pack("<I", 1) + b"\xff"):
        one["parameters"] = {"binary_data_size": len(broken)}
        with pytest.raises(RequestInvalid):
            read({"inputs": [one]}, broken)
    with pytest.raises(RequestError, match="no length"):
        oip.read(b"{}", "3", "model", Limits(pairs=False, max_texts=1))


def test_an_answer_has_the_outputs_that_were_asked_for() -> None:
    found = answer({"inputs": [tensor("x", "y")], "id": "7"})
    assert (found["model_name"], found["id"]) == ("model", "7")
    assert [one["name"] for one in found["outputs"]] == ["label", "score", "probabilities"]
    assert found["outputs"][0] == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["b", "b"]}
    assert found["outputs"][2]["shape"] == [2, 2]
    (logits,) = answer({"inputs": [tensor("x")], "outputs": [{"name": "logits"}]})["outputs"]
    assert (logits["shape"], logits["data"]) == ([1, 2], [-1.0, 2.0])
    with pytest.raises(RequestInvalid, match="does not have"):
        answer({"inputs": [tensor("x")], "outputs": [{"name": "embedding"}]})


@pytest.mark.parametrize(
    "one",
    [
        tensor("x", datatype="FP32"),
        tensor("x", shape=[2]),
        tensor("x", shape=[1, 2]),
        tensor("x", shape="1"),
        tensor("x", name="txt"),
        tensor(data=[1]),
        tensor(),
        tensor(""),
    ],
)
def test_other_tensors_are_refused(one: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid):
        read({"inputs": [one]})


@given(JSON, st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), st.binary(max_size=12))
def test_anything_is_read_or_refused_with_our_own_error(value: object, field: str, rest: bytes) -> None:
    for body in (value, {"inputs": value}, {"inputs": [tensor("x") | {field: value}], "outputs": value}):
        try:
            read(body, rest)
        except BertieError as error:
            assert 400 <= error.http_status < 500


def test_the_metadata_name_inputs_and_outputs() -> None:
    found = oip.metadata("model", ("a", "b"), pairs=True)
    assert [one["name"] for one in found["inputs"]] == ["text", "text_pair"]
    assert found["outputs"][2] == {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [-1, 2],
        "parameters": {"labels": ["a", "b"]},
    }
