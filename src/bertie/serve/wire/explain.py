"""POST /explain: one text, or a pair, and perhaps the label that is to be explained."""

from __future__ import annotations

from bertie.errors import RequestInvalid
from bertie.serve.wire.exchange import Limits, checked, parse, text_of
from bertie.tokens import Text

SHAPES = '{"text": "..."} or {"text": "...", "label": "..."}'


def read(body: bytes, limits: Limits) -> tuple[Text, str | None]:
    """Return the text and the label. Raises RequestError or RequestInvalid."""
    value = parse(body, SHAPES)
    if not isinstance(value, dict):
        raise RequestInvalid("the body is no object.", expected=SHAPES)
    label = value.get("label")
    if not isinstance(label, str | None):
        raise RequestInvalid("the label is no string.", expected=SHAPES)
    (text,) = checked([text_of(value, limits, "the body", SHAPES)], limits, SHAPES)
    return text, label
