from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertie
from bertie.errors import RequestInvalid, RequestTooLarge
from bertie.scores import Prediction
from bertie.serve.explain import (
    FEWEST_SPANS,
    MOST_CHARACTERS,
    MOST_TEXTS,
    SECONDS,
    Explanation,
    Plan,
    explain,
    grouped,
    plan,
    without,
    words,
)
from bertie.tokens import Text, Tokens

LENGTH = 512
"""Tokens that the model of these tests reads."""

RATE = 1e6
"""And how many it computes in a second."""

contents = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.strip()))
texts = contents | st.tuples(contents, contents)


def encode(batch: Sequence[Text], length: int = LENGTH) -> Tokens:
    """Return a token for each word, and two around them all."""
    counts = [len(words(text)) + 2 for text in batch]
    kept = np.minimum(counts, length)
    return Tokens(
        ids=np.zeros(kept.sum(), np.int32),
        types=np.zeros(kept.sum(), np.int8),
        starts=np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        rows=np.arange(len(batch)),
        truncated=np.asarray(counts) > length,
    )


class Adding:
    """A model whose probability is the sum of what each word adds; so leaving one out shows what it adds."""

    def __init__(self, adds: dict[str, float]) -> None:
        self.adds, self.asked, self.calls = adds, 0, 0

    async def __call__(self, batch: Sequence[Text]) -> list[Prediction]:
        self.asked += len(batch)
        self.calls += 1
        return [self.predict(text) for text in batch]

    def predict(self, text: Text) -> Prediction:
        yes = 0.5 + sum(self.adds.get(word, 0.0) for part in parts(text) for word in part.split())
        scores = {"yes": yes, "no": 1 - yes}
        label = max(scores, key=lambda name: scores[name])
        return Prediction(label, scores[label], scores)


def parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def explained(text: Text, model: Adding, label: str | None = None, *, batch_tokens: int = 1024) -> Explanation:
    return anyio.run(lambda: explain(plan(text, encode, batch_tokens=batch_tokens, rate=RATE), model, label))


@given(st.dictionaries(st.text("abcdef", min_size=1), st.floats(-0.01, 0.01), min_size=1, max_size=40))
def test_the_weight_of_a_word_is_what_it_adds(adds: dict[str, float]) -> None:
    found = explained(" ".join(adds), Adding(adds), "yes").as_dict()
    assert [word["text"] for word in found["words"]] == list(adds)
    assert [word["weight"] for word in found["words"]] == pytest.approx(list(adds.values()), abs=1e-9)
    assert found["score"] == pytest.approx(0.5 + sum(adds.values()))


@given(texts, st.integers(2, 30))
def test_spans_hold_every_word_once_and_in_order(text: Text, most: int) -> None:
    spans = grouped(words(text), most)
    assert 1 <= len(spans) <= most
    for before, after in pairwise(spans):
        assert (before.part, before.end) <= (after.part, after.start)
    for word in words(text):
        assert sum(span.part == word.part and span.start <= word.start and word.end <= span.end for span in spans) == 1


@given(texts)
def test_what_is_left_is_all_but_the_word_and_space(text: Text) -> None:
    for word in words(text):
        left = without(text, word)
        for place, (before, after) in enumerate(zip(parts(text), parts(left), strict=True)):
            kept = before[: word.start] + before[word.end :] if place == word.part else before
            assert "".join(after.split()) == "".join(kept.split())


def test_space_is_not_doubled_and_does_not_hang_over() -> None:
    text = "Where is it, please?"
    assert [text[word.start : word.end] for word in words(text)] == ["Where", "is", "it", "please"]
    assert [without(text, word) for word in words(text)] == [
        "is it, please?",
        "Where it, please?",
        "Where is , please?",
        "Where is it, ?",
    ]
    assert without("a b", words("a b")[1]) == "a"
    assert without(("a b", "c"), words(("a b", "c"))[2]) == ("a b", "")


def test_words_are_found_in_any_script() -> None:
    for text, found in (
        ("don't — stop!!!", ["don't", "—", "stop"]),
        ("東京へ行く ok", ["東", "京", "へ", "行", "く", "ok"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("🙂 «да»", ["🙂", "да"]),
    ):
        assert [text[word.start : word.end] for word in words(text)] == found


def test_the_chosen_label_is_explained_unless_another_is_named() -> None:
    model = Adding({"good": 0.3, "bad": -0.3})
    assert (explained("good day", model).label, explained("bad day", model).label) == ("yes", "no")
    assert explained("good day", model, "no").weights == pytest.approx((-0.3, 0.0))
    with pytest.raises(RequestInvalid, match="no such label"):
        explained("good day", model, "perhaps")


def test_where_no_label_is_chosen_the_likeliest_is_explained() -> None:
    async def unsure(batch: Sequence[Text]) -> list[Prediction]:
        return [Prediction(None, 0.4, {"rare": 0.1, "likely": 0.4}, ()) for _ in batch]

    assert anyio.run(lambda: explain(plan("a b", encode, batch_tokens=8, rate=RATE), unsure)).label == "likely"


def test_a_long_text_costs_a_bounded_number_of_texts_and_comes_in_batches() -> None:
    for count in (1, 198, 199, 200, 5000):
        model = Adding({})
        found = explained(" ".join(["word"] * count), model, batch_tokens=1024)
        assert model.asked == len(found.weights) + 1 <= MOST_TEXTS
        assert len(found.weights) >= min(count, FEWEST_SPANS)
        if count > 200:
            assert model.calls > len(found.weights) // 3  # no more than two of them at once


def test_what_would_take_too_long_is_left_out_in_groups() -> None:
    text = "word " * 98  # 100 tokens
    for rate, spans in ((RATE, 98), (1000.0, 25), (100.0, FEWEST_SPANS)):
        planned = plan(text, encode, batch_tokens=1024, rate=rate)
        assert len(planned.spans) == spans
        assert spans == FEWEST_SPANS or 100 * spans / rate <= SECONDS


def test_what_the_model_does_not_read_is_not_left_out() -> None:
    text = " ".join(f"w{number}" for number in range(100))
    short: Plan = plan(text, lambda batch: encode(batch, 12), batch_tokens=1024, rate=RATE)
    assert [text[span.start : span.end] for span in short.spans] == [f"w{number}" for number in range(10)]
    assert short.read == text.index("w10") - 1
    whole = plan(text, encode, batch_tokens=1024, rate=RATE)
    assert (len(whole.spans), whole.read) == (100, None)


def test_a_text_beyond_all_measure_is_refused() -> None:
    assert plan("a" * MOST_CHARACTERS, encode, batch_tokens=8, rate=RATE).spans
    with pytest.raises(RequestTooLarge):
        plan("a" * (MOST_CHARACTERS + 1), encode, batch_tokens=8, rate=RATE)


def test_a_real_model_is_explained(tiny_bundle: object) -> None:
    classifier = bertie.load(str(tiny_bundle))

    async def classify(batch: Sequence[Text]) -> list[Prediction]:
        return classifier.predict(batch)

    text = "i love it"
    found = anyio.run(lambda: explain(plan(text, classifier.encode, batch_tokens=64, rate=RATE), classify))
    expected = [
        classifier.predict([text])[0].score - classifier.predict([rest])[0].scores[found.label]
        for rest in ("love it", "i it", "i love")
    ]
    assert found.weights == pytest.approx(expected, abs=1e-5)
    assert max(found.weights) == found.weights[1]
