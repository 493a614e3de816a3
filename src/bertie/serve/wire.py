"""What clients send and what they get: bytes become texts, predictions become bytes. Knows no model and no socket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bertie.errors import BertieError, RequestError, RequestInvalid, RequestTooLarge, RequestUnsupported
from bertie.scores import Prediction
from bertie.tokens import Text

SHAPES = '"text", ["text", ...], {"text": "..."} or {"inputs": ...}'

# curl -d sends the form type if told nothing else; what is inside is JSON all the same.
JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class Ask:
    """The texts of a request, and whether the answer is a list or one object."""

    texts: list[Text]
    single: bool


def read(body: bytes, content_type: str, *, pairs: bool, max_texts: int) -> Ask:
    """Return the texts of a request.

    Raises RequestUnsupported for another content type, RequestError for a body that is no JSON, RequestTooLarge for
    too many texts, RequestInvalid for JSON of another shape or a text with nothing in it.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in JSON_TYPES:
        raise RequestUnsupported(f"the content type {kind!r} is not known here.", expected="application/json")
    if not body.strip():
        raise RequestError("the request is empty.", expected=f"JSON: {SHAPES}")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {_why(error)}.", expected=f"JSON: {SHAPES}") from None
    ask = _ask(value, pairs=pairs)
    if not ask.texts:
        raise RequestInvalid("the request holds no text.", expected=SHAPES)
    if len(ask.texts) > max_texts:
        raise RequestTooLarge(
            f"the request holds {len(ask.texts)} texts.", expected=f"at most {max_texts}", hint="send several requests"
        )
    for place, text in enumerate(ask.texts):
        if any(not part.strip() for part in ((text,) if isinstance(text, str) else text)):
            raise RequestInvalid(f"text {place} is empty.", expected="at least one character that is no space")
    return ask


def write(predictions: list[Prediction], *, single: bool) -> bytes:
    """Return the JSON of an answer: one object, or a list in the order of the texts."""
    answers = [prediction.as_dict() for prediction in predictions]
    return json.dumps(answers[0] if single else answers, ensure_ascii=False).encode()


def write_error(error: BertieError) -> bytes:
    """Return the JSON of an error: what happened, what was expected, what to do. Never a traceback."""
    body = {"code": type(error).__name__, "message": error.what, "expected": error.expected, "hint": error.hint}
    return json.dumps({"error": {key: value for key, value in body.items() if value}}, ensure_ascii=False).encode()


def _ask(value: Any, *, pairs: bool) -> Ask:
    if isinstance(value, dict) and "inputs" in value:
        # The Hugging Face toolkit answers `inputs` with a list, also where it is one text.
        inner = _ask(value["inputs"], pairs=pairs)
        return Ask(inner.texts, single=False)
    if isinstance(value, list):
        return Ask([_text(item, pairs=pairs, where=f"text {place}") for place, item in enumerate(value)], single=False)
    return Ask([_text(value, pairs=pairs, where="the body")], single=True)


def _text(value: Any, *, pairs: bool, where: str) -> Text:
    if pairs:
        if isinstance(value, dict) and isinstance(value.get("text"), str) and isinstance(value.get("text_pair"), str):
            return (value["text"], value["text_pair"])
        raise RequestInvalid(
            f"{where} is no pair of texts.", expected='this model reads pairs: {"text": "...", "text_pair": "..."}'
        )
    if isinstance(value, dict) and isinstance(value.get("text"), str) and "text_pair" not in value:
        value = value["text"]
    if not isinstance(value, str):
        raise RequestInvalid(f"{where} is {_name(value)}, which is no text.", expected=SHAPES)
    return value


def _name(value: Any) -> str:
    names = {dict: "an object without a fitting key", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _why(error: Exception) -> str:
    """Say where parsing failed without a word of the body: bodies are users' texts."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
