"""POST /predict, as huggingface/text-embeddings-inference speaks it for classifiers: all labels, the best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bertie.errors import RequestInvalid
from bertie.serve.wire.exchange import Ask, Found, Limits, Reply, checked, dump, parse, refuse_many
from bertie.tokens import Text

SHAPES = '{"inputs": "text"}, {"inputs": ["text", "its pair"]} or {"inputs": [["text"], ["text", "its pair"], ...]}'


def read(body: bytes, limits: Limits) -> Ask:
    """Return the texts of a request, and how it is answered.

    One text is a string, or a list of two strings for a pair; several are a list of lists. A list of one string is one
    text too. Raises RequestError, RequestInvalid or RequestTooLarge.
    """
    value = parse(body, SHAPES)
    if not isinstance(value, dict) or "inputs" not in value:
        raise RequestInvalid("the body holds no inputs.", expected=SHAPES)
    raw = value.get("raw_scores", False)
    if not isinstance(raw, bool):
        raise RequestInvalid("raw_scores is neither true nor false.", expected="true for logits")
    inputs = value["inputs"]
    several = isinstance(inputs, list) and bool(inputs) and all(isinstance(one, list) for one in inputs)
    if several:
        refuse_many(inputs, limits)
    texts = [_text(one, limits) for one in (inputs if several else [inputs])]
    return Ask(checked(texts, limits, SHAPES), _writer(raw=raw, several=several))


def _text(value: Any, limits: Limits) -> Text:
    parts = [value] if isinstance(value, str) else value
    if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
        if limits.pairs and len(parts) == 2:
            return (parts[0], parts[1])
        if not limits.pairs and len(parts) == 1:
            text: str = parts[0]
            return text
    reads = "pairs of texts" if limits.pairs else "single texts"
    raise RequestInvalid(f"this model reads {reads}, and an input is something else.", expected=SHAPES)


def _writer(*, raw: bool, several: bool) -> Callable[[Found], Reply]:
    def write(found: Found) -> Reply:
        rows = []
        for place, one in enumerate(found.predictions):
            logits = dict(zip(found.labels, found.logits[place].tolist(), strict=True))
            scores = logits if raw else one.scores
            best = sorted(scores, key=lambda label: scores[label], reverse=True)
            rows.append([{"score": scores[label], "label": label} for label in best])
        return Reply(dump(rows if several else rows[0]))

    return write
