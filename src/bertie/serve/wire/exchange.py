"""What all contracts share: bytes become texts, and what was found becomes bytes again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.errors import BertieError, KeyRefused, NotReady, Overloaded, RequestError, RequestInvalid, RequestTooLarge
from bertie.scores import Prediction
from bertie.tokens import Text

JSON = "application/json"
BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Found:
    """What the model says of a request's texts, in their order."""

    predictions: list[Prediction]
    logits: NDArray[np.float32]  # [texts, labels]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """The body of an answer."""

    body: bytes
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """The texts of a request, and how its answer is written."""

    texts: list[Text]
    reply: Callable[[Found], Reply]


@dataclass(frozen=True)
class Limits:
    """What a request may hold."""

    pairs: bool
    """Whether the model reads pairs of texts."""
    max_texts: int
    max_characters: int = sys.maxsize
    """Length of one text."""


def parse(body: bytes | str, shapes: str) -> Any:
    """Return the value of a JSON body. Raises RequestError, without a word of the body: bodies are users' texts."""
    if not body.strip():
        raise RequestError("the request is empty.", expected=f"JSON: {shapes}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {_why(error)}.", expected=f"JSON: {shapes}") from None


def decoded(body: bytes) -> str:
    """Return a body's text. Raises RequestError where it is not UTF-8."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError("the body is not UTF-8.", expected="text encoded as UTF-8") from None


def utf8(raw: bytes) -> str:
    """Return a text out of a binary tensor. Raises RequestInvalid."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RequestInvalid("a text is not UTF-8.", expected="text encoded as UTF-8") from None


def checked(texts: list[Text], limits: Limits, shapes: str) -> list[Text]:
    """Return the texts. Raises RequestInvalid where there is none or one is empty, RequestTooLarge beyond a limit."""
    if not texts:
        raise RequestInvalid("the request holds no text.", expected=shapes)
    refuse_many(texts, limits)
    for place, text in enumerate(texts):
        for part in (text,) if isinstance(text, str) else text:
            if len(part) > limits.max_characters:
                raise RequestTooLarge(
                    f"text {place} has {len(part)} characters.",
                    expected=f"at most {limits.max_characters}",
                    hint="send the part that matters",
                )
            if not part.strip():
                raise RequestInvalid(f"text {place} is empty.", expected="at least one character that is no space")
    return texts


def refuse_many(values: Sized, limits: Limits) -> None:
    """Raise RequestTooLarge where there are more than a request may hold; called before each of them is looked at."""
    if len(values) > limits.max_texts:
        raise RequestTooLarge(
            f"the request holds {len(values)} texts.",
            expected=f"at most {limits.max_texts}",
            hint="send several requests",
        )


def text_of(value: Any, limits: Limits, where: str, shapes: str) -> Text:
    """Return a text out of JSON: a string, or an object with `text`, or with `text` and `text_pair`."""
    if limits.pairs:
        if isinstance(value, dict) and isinstance(value.get("text"), str) and isinstance(value.get("text_pair"), str):
            return (value["text"], value["text_pair"])
        raise RequestInvalid(
            f"{where} is no pair of texts.", expected='this model reads pairs: {"text": "...", "text_pair": "..."}'
        )
    if isinstance(value, dict) and isinstance(value.get("text"), str) and "text_pair" not in value:
        value = value["text"]
    if not isinstance(value, str):
        raise RequestInvalid(f"{where} is {_name(value)}, which is no text.", expected=shapes)
    return value


def dump(value: Any) -> bytes:
    """Return JSON as it goes over the wire."""
    return json.dumps(value, ensure_ascii=False).encode()


def headers_of(error: BertieError) -> dict[str, str]:
    """Return the headers of an answer that is an error, whatever the contract."""
    # What waits is at most a fraction of a second's work, and seconds are the unit of the header.
    headers = {"retry-after": "1"} if isinstance(error, Overloaded | NotReady) else {}
    if isinstance(error, NotReady):
        # The next request on a connection that is kept would come here again.
        headers["connection"] = "close"
    if isinstance(error, KeyRefused):
        headers["www-authenticate"] = "Bearer"
    return headers


def write_error(error: BertieError) -> bytes:
    """Return the JSON of an error: what happened, what was expected, what to do. Never a traceback."""
    body = {"code": type(error).__name__, "message": error.what, "expected": error.expected, "hint": error.hint}
    return dump({"error": {key: value for key, value in body.items() if value}})


def _name(value: Any) -> str:
    names = {dict: "an object without a fitting key", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a number has too many digits"
