"""What is asked, and when again, without any server: the exchange is driven by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.client.exchange import (
    LONGEST_SECONDS,
    MAX_BYTES,
    MAX_TEXTS,
    Came,
    Exchange,
    Retries,
    Send,
    Wait,
    error_of,
    item,
    parts,
    predictions,
    read,
)
from bertie.errors import (
    BertieError,
    BundleDamaged,
    DeadlinePassed,
    KeyRefused,
    NotReady,
    Overloaded,
    RequestInvalid,
    RequestTooLarge,
)
from bertie.scores import Prediction


class Clock:
    """Stands still but for what is waited."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(
    exchange: Exchange[Any], answer: Callable[[bytes], Came], clock: Clock | None = None
) -> tuple[Any, list[Any]]:
    """Return the result of an exchange, and what it had done."""
    acts: list[Any] = []
    came = None
    while True:
        try:
            act = exchange.send(came)
        except StopIteration as done:
            return done.value, acts
        acts.append(act)
        came = answer(act.body) if isinstance(act, Send) else None
        if isinstance(act, Wait) and clock is not None:
            clock.now += act.seconds


def one(text: str) -> dict[str, Any]:
    return {"label": text, "score": 0.5, "scores": {text: 0.5}}


def echo(body: bytes) -> Came:
    return Came(200, json.dumps([one(text) for text in json.loads(body)]).encode())


def never() -> Retries:
    return Retries(0, 60, clock=Clock())


def patient(clock: Clock, times: int = 5, seconds: float = 60.0) -> Callable[[], Retries]:
    return lambda: Retries(times, seconds, clock=clock, chance=lambda _, most: most, now=lambda: 1e9)


@given(st.lists(st.text(max_size=30), max_size=700))
def test_texts_come_back_in_order_whatever_they_are(texts: list[str]) -> None:
    texts = [text.encode(errors="ignore").decode() for text in texts]
    found, acts = drive(predictions(texts, never), echo)
    assert [prediction.label for prediction in found] == texts
    assert len(acts) == -(-len(texts) // MAX_TEXTS)


@given(st.lists(st.integers(1, MAX_BYTES * 2), max_size=40))
def test_requests_are_bounded(sizes: list[int]) -> None:
    items = [b"x" * size for size in sizes]
    made = list(parts(items))
    assert [one for part in made for one in part] == items
    for part in made:
        assert len(part) <= MAX_TEXTS
        assert len(part) == 1 or sum(map(len, part)) <= MAX_BYTES


def test_a_server_that_takes_less_gets_less() -> None:
    def small(body: bytes) -> Came:
        return echo(body) if len(json.loads(body)) <= 3 else Came(413, b"")

    texts = [str(number) for number in range(20)]
    found, acts = drive(predictions(texts, never), small)
    assert [prediction.label for prediction in found] == texts
    assert sorted(len(json.loads(act.body)) for act in acts) == [*[2] * 4, *[3] * 4, *[5] * 4, 10, 10, 20]
    with pytest.raises(RequestTooLarge):
        drive(predictions(["a"], never), lambda _: Came(413))


def busy(times: int, came: Came) -> Callable[[bytes], Came]:
    left = [times]

    def answer(body: bytes) -> Came:
        left[0] -= 1
        return came if left[0] >= 0 else echo(body)

    return answer


@pytest.mark.parametrize("came", [Came(429), Came(503), Came(502), Came(lost="connection refused")])
def test_what_may_be_better_later_is_asked_again(came: Came) -> None:
    clock = Clock()
    found, acts = drive(predictions(["a"], patient(clock)), busy(4, came), clock)
    assert found[0].label == "a"
    waits = [act.seconds for act in acts if isinstance(act, Wait)]
    assert waits == [0.1, 0.2, 0.4, 0.8], "twice as long each time"
    with pytest.raises((Overloaded, NotReady)):
        drive(predictions(["a"], patient(clock)), busy(6, came), clock)


@pytest.mark.parametrize("came", [Came(400), Came(401), Came(422), Came(500), Came(504), Came(late=True), Came(302)])
def test_what_will_not_be_better_is_not(came: Came) -> None:
    sent = []

    def answer(body: bytes) -> Came:
        sent.append(body)
        return came

    with pytest.raises(BertieError):
        drive(predictions(["a"], patient(Clock())), answer)
    assert len(sent) == 1


def test_the_server_says_when_to_come_back() -> None:
    for header, waited in (("3", 3.1), ("Sun, 09 Sep 2001 01:46:45 GMT", 5.1), ("", 0.1), ("soon", 0.1), ("-1", 0.1)):
        clock = Clock()
        _, acts = drive(predictions(["a"], patient(clock)), busy(1, Came(429, retry_after=header)), clock)
        assert acts[1].seconds == pytest.approx(waited), header
    sent: list[bytes] = []

    def answer(body: bytes) -> Came:
        sent.append(body)
        return Came(429, retry_after="61")

    with pytest.raises(Overloaded):
        drive(predictions(["a"], patient(Clock())), answer)
    assert len(sent) == 1, "there is no use in waiting for longer than may be waited"


@given(st.integers(0, 30), st.floats(0, 1))
def test_waits_are_bounded_in_number_and_time(times: int, share: float) -> None:
    clock = Clock()
    retries = Retries(times, 100.0, clock=clock, chance=lambda least, most: least + share * (most - least))
    waits = []
    while (wait := retries.wait("")) is not None:
        assert 0 <= wait <= LONGEST_SECONDS
        waits.append(wait)
        clock.now += wait
    assert len(waits) <= times
    assert clock.now <= 100.0


def test_an_error_names_the_text_by_its_place_among_all() -> None:
    def answer(body: bytes) -> Came:
        texts = json.loads(body)
        if len(texts) > 100:
            return Came(413, b'{"error": {"code": "RequestTooLarge", "message": "the request holds too many."}}')
        if "bad" in texts:
            told = {"code": "RequestInvalid", "message": f"text {texts.index('bad')} is empty.", "hint": "x"}
            return Came(422, json.dumps({"error": told}).encode())
        one = {"label": "a", "score": 1.0, "scores": {"a": 1.0}}
        return Came(200, json.dumps([one] * len(texts)).encode())

    texts = ["good"] * 300
    assert len(drive(predictions(texts, lambda: Retries(0, 1.0)), answer)[0]) == 300
    for place in (3, 130, 290):
        with pytest.raises(RequestInvalid, match=rf"^text {place} is empty\.") as raised:
            drive(predictions([*texts[:place], "bad", *texts[place + 1 :]], lambda: Retries(0, 1.0)), answer)
        assert raised.value.hint == "x"


def test_waits_differ_from_client_to_client() -> None:
    assert len({Retries(5, 60).wait("") for _ in range(20)}) > 10


def test_pairs_and_what_is_no_text() -> None:
    assert json.loads(item(("a", "b"), 0)) == {"text": "a", "text_pair": "b"}
    for wrong in (7, None, ("a",), ("a", 7), ["a", "b"]):
        with pytest.raises(RequestInvalid, match="text 3 is no text"):
            item(wrong, 3)  # type: ignore[arg-type]  # for that reason
    with pytest.raises(RequestInvalid, match="half a character"):
        item("\ud800", 0)
    with pytest.raises(RequestInvalid, match="not one text"):
        drive(predictions("where", never), echo)


def test_answers() -> None:
    several: dict[str, Any] = {"label": None, "score": 0.1, "scores": {"a": 0.1}, "labels": []}
    assert read(json.dumps([one("a"), several]).encode(), 2) == [
        Prediction("a", 0.5, {"a": 0.5}),
        Prediction(None, 0.1, {"a": 0.1}, ()),
    ]
    for wrong in (b"<html>", b"[]", b"[1]", b"{}", b'[{"label": "a"}]', b"null"):
        with pytest.raises(BertieError, match="cannot be understood"):
            read(wrong, 1)


def test_errors_are_those_of_the_server() -> None:
    told = {"error": {"code": "RequestInvalid", "message": "text 0 is empty.", "expected": "more", "hint": "h"}}
    error = error_of(Came(422, json.dumps(told).encode()))
    assert (type(error), error.what, error.expected, error.hint) == (RequestInvalid, "text 0 is empty.", "more", "h")
    told["error"]["code"] = "BundleDamaged"
    assert type(error_of(Came(500, json.dumps(told).encode()))) is BundleDamaged
    for code in ("nearest", "Iterable", "SystemExit", "Newer"):
        told["error"]["code"] = code
        assert type(error_of(Came(500, json.dumps(told).encode()))) is BertieError
    for status, kind in (
        (401, KeyRefused),
        (413, RequestTooLarge),
        (429, Overloaded),
        (502, NotReady),
        (504, DeadlinePassed),
    ):
        for body in (b"<html>", b"[]", b'{"error": "a"}', b"\xff"):
            assert type(error_of(Came(status, body))) is kind
    assert type(error_of(Came(418))) is BertieError
    assert type(error_of(Came(late=True))) is DeadlinePassed
    assert "connection refused" in str(error_of(Came(lost="connection refused")))
