from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import (
    BertieError,
    RequestError,
    RequestInvalid,
    RequestTooLarge,
    RequestUnacceptable,
    RequestUnsupported,
)
from bertie.scores import Prediction
from bertie.serve.wire import invocations
from bertie.serve.wire.exchange import Ask, Found, Limits

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "inputs", "x"]), inner),
)


PROBABILITIES = {"é": 0.75, "b": 0.25}


def found(count: int) -> Found:
    one = Prediction("é", 0.75, PROBABILITIES)
    return Found([one] * count, np.asarray([[2.0, -1.5]] * count, np.float32), ("é", "b"))


def read(
    body: object, *, pairs: bool = False, kind: str = "application/json", accept: str = "", most: int = 100
) -> Ask:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return invocations.read(raw, kind, accept, Limits(pairs, most))


def answer(body: object, kind: str = "application/json", accept: str = "") -> tuple[str, str]:
    ask = read(body, kind=kind, accept=accept)
    reply = ask.reply(found(len(ask.texts)))
    return reply.body.decode(), reply.media_type


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
    assert read(body).texts == texts
    assert isinstance(json.loads(answer(body)[0]), dict) is single


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


def test_plain_text_is_the_labels_alone() -> None:
    assert answer(["a", "b"], accept="text/plain") == ("é\né\n", "text/plain; charset=utf-8")
    with pytest.raises(RequestUnacceptable):
        answer(["a", "b"], accept="text/plain; output=logits")


def test_another_content_type_is_refused() -> None:
    with pytest.raises(RequestUnsupported, match="image/png"):
        read("a", kind="image/png")


@pytest.mark.parametrize(
    ("body", "kind", "texts"),
    [
        (b'"a"\n{"text": "b"}\n{"inputs": "c"}\n', "application/jsonlines", ["a", "b", "c"]),
        (b'"a"\r\n"b"', "application/x-ndjson", ["a", "b"]),
        (b"a, b\nc", "text/plain", ["a, b", "c"]),
        ("\ufeffé\n".encode(), "text/plain; charset=utf-8", ["é"]),
        (b'"a, b"\nc\n', "text/csv", ["a, b", "c"]),
        (b'text\n"a\nb"\n', "text/csv", ["a\nb"]),
        (b"id,Inputs\n1,a\n2,b\n", "text/csv", ["a", "b"]),
    ],
)
def test_lines_and_tables(body: bytes, kind: str, texts: list[str]) -> None:
    assert read(body, kind=kind).texts == texts


def test_pairs_in_tables_and_lines() -> None:
    assert read(b"a,b\nc,d\n", kind="text/csv", pairs=True).texts == [("a", "b"), ("c", "d")]
    assert read(b"text_pair,text\na,b\n", kind="text/csv", pairs=True).texts == [("b", "a")]
    assert read(b'{"text": "a", "text_pair": "b"}', kind="application/jsonlines", pairs=True).texts == [("a", "b")]
    with pytest.raises(RequestUnsupported, match="plain text cannot hold"):
        read(b"a", kind="text/plain", pairs=True)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a,b\n", "text/csv", 422),
        (b'"a', "text/csv", 400),
        (b"\xff", "text/csv", 400),
        (b"text\n", "text/csv", 422),
        (b"", "text/csv", 422),
        (b'"a"\n\n"b"', "application/jsonlines", 400),
        (b"a\n\nb", "text/plain", 422),
        (b"\xff", "text/plain", 400),
    ],
)
def test_broken_lines_and_tables_are_refused(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        read(body, kind=kind)
    assert caught.value.http_status == status


@pytest.mark.parametrize(("kind", "lines"), [("application/jsonlines", '"a"'), ("text/plain", "a"), ("text/csv", "a")])
@pytest.mark.parametrize("count", [1, 3])
def test_a_line_in_is_a_line_out(kind: str, lines: str, count: int) -> None:
    """SageMaker's batch transform joins answers to lines by their place."""
    body, _ = answer("\n".join([lines] * count).encode(), kind)
    assert body.count("\n") == count
    assert body.endswith("\n")


def test_a_client_says_what_it_takes() -> None:
    assert answer(["a"], accept="text/csv") == ("é,0.75\n", "text/csv")
    assert answer(b"text\na\n", "text/csv") == ("label,score\né,0.75\n", "text/csv")
    assert answer(["a"], accept="text/html, application/jsonlines;q=0.5")[1] == "application/jsonlines"
    assert answer("a", accept="*/*")[1] == "application/json"
    # What a client likes best, not what it names first; q=0 is what it does not take.
    assert answer(["a"], accept="text/csv;q=0.1, application/json")[1] == "application/json"
    assert answer(["a"], accept="text/csv;q=0.5, application/json;q=0.4, */*;q=0.1")[1] == "text/csv"
    assert answer(["a"], accept="application/json;q=0, text/csv;q=often")[1] == "text/csv"
    assert answer(b"a", "text/csv", accept="application/json")[1] == "application/json"
    with pytest.raises(RequestUnacceptable, match="image/png") as caught:
        answer("a", accept="image/png")
    assert caught.value.http_status == 406


def test_raw_scores_are_the_rows_of_the_old_sample() -> None:
    raw = "application/json; output=logits"
    assert json.loads(answer("a", accept=raw)[0]) == [[2.0, -1.5]]
    assert json.loads(answer(["a", "b"], accept=raw)[0]) == [[2.0, -1.5]] * 2
    assert answer(["a"], accept="text/csv; output=logits")[0] == "2.0,-1.5\n"


def test_parameters_are_those_of_the_hugging_face_toolkit() -> None:
    def of(inputs: object, **parameters: object) -> object:
        return json.loads(answer({"inputs": inputs, "parameters": parameters})[0])

    best, other = ({"label": label, "score": score} for label, score in PROBABILITIES.items())
    assert of(["a", "b"], truncation=True) == [best, best]
    assert of("a", top_k=None) == [best, other]
    assert of(["a"], top_k=None) == [[best, other]]
    assert of("a", top_k=1) == [best]
    assert of("a", top_k=9) == [best, other]
    assert of("a", function_to_apply="none", top_k=1) == [{"label": "é", "score": 2.0}]
    assert isinstance(of(["a"]), list)
    for wrong in ({"top_k": 0}, {"top_k": True}, {"top_k": "1"}, {"function_to_apply": "sigmoid"}, {"max_length": 8}):
        with pytest.raises(RequestInvalid):
            of("a", **wrong)
    with pytest.raises(RequestInvalid):
        answer({"inputs": "a", "parameters": ["top_k"]})


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


KINDS = ("application/json", "application/jsonlines", "text/csv", "text/plain")


@given(st.binary(max_size=50) | st.text(alphabet='a",\\n[]{}:1', max_size=20).map(str.encode), st.sampled_from(KINDS))
def test_any_bytes_are_read_or_refused_with_our_own_error(body: bytes, kind: str) -> None:
    try:
        answer(body, kind)
    except BertieError as error:
        assert 400 <= error.http_status < 500


@given(st.text(min_size=12).filter(lambda text: len(set(text)) > 6))
def test_an_error_never_repeats_the_users_text(text: str) -> None:
    for body in (json.dumps({"txt": text}), json.dumps([[text]]), json.dumps(text)[:-1]):
        with pytest.raises(BertieError) as caught:
            read(body.encode())
        assert text not in str(caught.value)


def test_answers_are_one_object_or_a_list() -> None:
    assert json.loads(answer("a")[0]) == {"label": "é", "score": 0.75, "scores": PROBABILITIES}
    assert len(json.loads(answer(["a", "b"])[0])) == 2


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/jsonlines", b"nope\n" * 6),
        ("text/plain", b"\n" * 6),
        ("application/json", b"[1, 2, 3, 4, 5, 6]"),
        ("text/csv", b"a\n" * 7 + b'"never closed'),
    ],
)
def test_too_many_texts_are_refused_before_they_are_looked_at(kind: str, body: bytes) -> None:
    with pytest.raises(RequestTooLarge, match=r"holds [67] texts"):
        invocations.read(body, kind, "", Limits(pairs=False, max_texts=5))
    with pytest.raises((RequestError, RequestInvalid)) as caught:
        invocations.read(body, kind, "", Limits(pairs=False, max_texts=50))
    assert caught.value.http_status in {400, 422}


def test_as_many_texts_as_there_may_be_are_read() -> None:
    for body in (b"a\n" * 5, b"text\n" + b"a\n" * 5):
        assert len(invocations.read(body, "text/csv", "", Limits(pairs=False, max_texts=5)).texts) == 5
    with pytest.raises(RequestTooLarge):
        invocations.read(b"text\n" + b"a\n" * 6, "text/csv", "", Limits(pairs=False, max_texts=5))
