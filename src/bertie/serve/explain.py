"""Which words an answer stands on: each is left out in turn, and what the label's probability loses is its weight.

Occlusion, as Li et al. 2016 (arXiv 1612.08220) do it with words. It asks the model and looks at nothing inside it, so
it is true of whatever answers. Knows no HTTP.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bertie.errors import RequestInvalid, RequestTooLarge
from bertie.scores import Prediction
from bertie.tokens import Text, Tokens

MOST_TEXTS = 200
"""Texts that the model scores for one explanation, the whole text among them."""

SECONDS = 3.0
"""Of the model's time, about, that an explanation takes; the longer the text, the more words are left out at once."""

FEWEST_SPANS = 8
"""Into so many a text is divided however long it is."""

MOST_CHARACTERS = 100_000

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Chinese and Japanese put no space between words; there each character is one, as it is for BERT's tokenizer.
_RUN = re.compile(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")

Classify: TypeAlias = Callable[[Sequence[Text]], Awaitable[list[Prediction]]]
Encode: TypeAlias = Callable[[Sequence[Text]], Tokens]


@dataclass(frozen=True)
class Span:
    """A word, or several that are left out together: characters `start` to `end` of one of a pair's texts."""

    part: int
    start: int
    end: int


@dataclass(frozen=True)
class Plan:
    """What is left out of a text, and how many of the texts without it are scored at once."""

    text: Text
    spans: tuple[Span, ...]
    at_once: int
    read: int | None
    """Characters that the model reads, where it does not read all."""


@dataclass(frozen=True)
class Explanation:
    """The label that is explained, its probability, and the weight of each span: negative where it speaks against."""

    plan: Plan
    label: str
    score: float
    weights: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what goes over the wire. Places are counted in Unicode's characters."""
        parts, names = _parts(self.plan.text), ("text", "text_pair")
        words: list[dict[str, Any]] = [
            {"start": span.start, "end": span.end, "text": parts[span.part][span.start : span.end], "weight": weight}
            | ({"in": names[span.part]} if len(parts) > 1 else {})
            for span, weight in zip(self.plan.spans, self.weights, strict=True)
        ]
        answer: dict[str, Any] = {"label": self.label, "score": self.score, "words": words}
        return answer if self.plan.read is None else answer | {"read": self.plan.read}


def plan(text: Text, encode: Encode, *, batch_tokens: int, rate: float) -> Plan:
    """Return how a text is explained: word by word, or where that would be too much, by groups of words.

    `rate` is the tokens that the model computes in a second. What is scored at once is about a batch, so that others'
    requests come in between. Raises RequestTooLarge.
    """
    if sum(map(len, _parts(text))) > MOST_CHARACTERS:
        raise RequestTooLarge(
            "the text is too long to be explained.",
            expected=f"at most {MOST_CHARACTERS} characters",
            hint="explain a part of it",
        )
    tokens = max(1, int(encode([text]).starts[-1]))
    found = words(text)
    read = None
    if isinstance(text, str) and encode([text]).truncated[0]:
        first_unread = bisect_left(found, 1, key=lambda word: int(encode([text[: word.end]]).truncated[0]))
        # A single word can be more than the model reads.
        found = found[: max(1, first_unread)]
        read = found[-1].end
    most = min(MOST_TEXTS - 1, max(FEWEST_SPANS, int(SECONDS * rate / tokens)))
    return Plan(text, grouped(found, most), max(1, batch_tokens // tokens), read)


async def explain(plan: Plan, classify: Classify, label: str | None = None) -> Explanation:
    """Return the weights of a plan's spans for a label: the one given, or the chosen, or the likeliest.

    Raises RequestInvalid for a label that the model does not have.
    """
    (whole,) = await classify([plan.text])
    if label is not None and label not in whole.scores:
        raise RequestInvalid("the model has no such label.", expected=" or ".join(map(repr, whole.scores)))
    label = label or whole.label or max(whole.scores, key=lambda name: whole.scores[name])
    weights: list[float] = []
    for first in range(0, len(plan.spans), plan.at_once):
        some = await classify([without(plan.text, span) for span in plan.spans[first : first + plan.at_once]])
        weights += (whole.scores[label] - one.scores[label] for one in some)
    return Explanation(plan, label, whole.scores[label], tuple(weights))


def words(text: Text) -> list[Span]:
    """Return the words of a text, in order: runs without space, less the punctuation at their ends."""
    return [
        _trimmed(content, Span(part, *run.span()))
        for part, content in enumerate(_parts(text))
        for run in _RUN.finditer(content)
    ]


def _trimmed(content: str, span: Span) -> Span:
    """Return a run without the punctuation around it; one of nothing else as it is."""
    kept = [place for place in range(span.start, span.end) if unicodedata.category(content[place])[0] != "P"]
    return Span(span.part, kept[0], kept[-1] + 1) if kept else span


def grouped(found: Sequence[Span], most: int) -> tuple[Span, ...]:
    """Return spans of so few neighbouring words each that there are at most `most`; none reaches over both texts."""
    parts = [[span for span in found if span.part == part] for part in (0, 1)]
    size = max(1, -(-len(found) // most))
    while sum(-(-len(part) // size) for part in parts) > max(most, 2):
        size += 1
    groups = (part[first : first + size] for part in parts for first in range(0, len(part), size))
    return tuple(Span(group[0].part, group[0].start, group[-1].end) for group in groups)


def without(text: Text, span: Span) -> Text:
    """Return a text with a span left out, and with it the space that would then stand there twice or at an end."""
    content = _parts(text)[span.part]
    left, right = content[: span.start], content[span.end :]
    if not left or left[-1].isspace():
        right = right.lstrip()
    if not right:
        left = left.rstrip()
    if isinstance(text, str):
        return left + right
    return (text[0], left + right) if span.part else (left + right, text[1])


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
