from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import BertieError, RequestError, RequestInvalid, RequestTooLarge, RequestUnsupported
from bertie.scores import Prediction
from bertie.serve import wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "inputs", "x"]), inner),
)


def read(body: object, *, pairs: bool = False, kind: str = "application/json", most: int = 100) -> wire.Ask:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.read(raw, kind, pairs=pairs, max_texts=most)


@pytest.mark.parametrize(
    ("body", "texts", "single"),
    [
        ("a", ["a"], True),
        (["a", "b"], ["a", "b"], False),
        ({"text": "a"}, ["a"], True),
        ([{"text": "a"}, "b"], ["a", "b"], False),
        ({"inputs": "a"}, ["a"], False),
        ({"inputs": ["a", "b"], "parameters": {}}, ["a", "b"], False),
        ({"inputs": {"text": "a"}}, ["a"], False),
    ],
)
def test_the_shapes_that_clients_speak(body: object, texts: list[str], single: bool) -> None:
    assert read(body) == wire.Ask(list(texts), single)


def test_pairs_are_objects_with_two_texts() -> None:
    pair = {"text": "a", "text_pair": "b"}
    assert read(pair, pairs=True).texts == [("a", "b")]
    assert read({"inputs": [pair, pair]}, pairs=True).texts == [("a", "b"), ("a", "b")]
    for wrong in ("a", ["a", "b"], {"text": "a"}):
        with pytest.raises(RequestInvalid, match="no pair"):
            read(wrong, pairs=True)
    with pytest.raises(RequestInvalid):
        read(pair)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "", "Application/JSON"])
def test_json_is_known_by_its_usual_names(kind: str) -> None:
    assert read("a", kind=kind).texts == ["a"]


def test_another_content_type_is_refused() -> None:
    with pytest.raises(RequestUnsupported, match="text/csv"):
        read("a", kind="text/csv")


@pytest.mark.parametrize("body", [b"", b"  \n", b"{", b"nope", b"\xff\xfe", b'"half', b"[" * 100_000])
def test_what_is_no_json_is_a_400(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read(body)
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    "body", [5, None, True, [], {}, [[]], {"text": 5}, {"inputs": []}, [""], {"text": " "}, ["a", 1]]
)
def test_json_of_another_shape_is_a_422(body: object) -> None:
    with pytest.raises(RequestInvalid) as caught:
        read(body)
    assert caught.value.http_status == 422


def test_too_many_texts_are_a_413_and_the_limit_itself_is_not() -> None:
    assert len(read(["a"] * 3, most=3).texts) == 3
    with pytest.raises(RequestTooLarge, match="4 texts") as caught:
        read(["a"] * 4, most=3)
    assert (caught.value.http_status, caught.value.expected) == (413, "at most 3")


@given(JSON, st.booleans())
def test_any_json_is_read_or_refused_with_our_own_error(value: object, pairs: bool) -> None:
    try:
        ask = read(value, pairs=pairs)
    except BertieError as error:
        assert 400 <= error.http_status < 500
    else:
        assert ask.texts


@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_refused_with_our_own_error(body: bytes) -> None:
    try:
        read(body)
    except BertieError as error:
        assert 400 <= error.http_status < 500


@given(st.text(min_size=12).filter(lambda text: len(set(text)) > 6))
def test_an_error_never_repeats_the_users_text(text: str) -> None:
    for body in (json.dumps({"txt": text}), json.dumps([[text]]), json.dumps(text)[:-1]):
        with pytest.raises(BertieError) as caught:
            read(body.encode())
        assert text not in str(caught.value)


def test_answers_are_one_object_or_a_list() -> None:
    one = Prediction("é", 0.75, {"é": 0.75, "b": 0.25})
    assert json.loads(wire.write([one], single=True)) == {"label": "é", "score": 0.75, "scores": {"é": 0.75, "b": 0.25}}
    assert len(json.loads(wire.write([one, one], single=False))) == 2
