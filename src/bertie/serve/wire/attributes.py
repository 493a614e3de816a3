"""SageMaker's custom attributes: one header that it passes on in both directions, where it drops all others.

A client says in it what it may not be able to say in Accept; what is not known here belongs to somebody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bertie.errors import RequestInvalid

HEADER = "x-amzn-sagemaker-custom-attributes"
MOST = 1024
EXPECTED = "output=logits, output=probabilities, top_k=3 or top_k=all, with semicolons between"


@dataclass(frozen=True)
class Wishes:
    """What a client asks for."""

    raw: bool = False
    """Whether the answer is to hold the model's raw scores."""
    best: bool = False
    """Whether it is to hold the best labels of each text, as `top_k` in a body asks for them."""
    top_k: int | None = None
    """How many labels, None for all."""


def read(header: str) -> Wishes:
    """Return the wishes in `key=value; key=value`. Raises RequestInvalid for a known key with another value."""
    if len(header) > MOST or re.search(r"[^ -~]", header):
        raise RequestInvalid("the custom attributes are too long or not ASCII.", expected=f"at most {MOST} characters")
    pairs = (part.partition("=") for part in re.split("[;,]", header))
    given = {key.strip().lower(): value.strip().lower() for key, _, value in pairs}
    output, top = given.get("output", "probabilities"), given.get("top_k")
    if output not in {"logits", "probabilities"} or not (top is None or re.fullmatch("all|[1-9][0-9]{0,8}", top)):
        raise RequestInvalid("a custom attribute has a value that is not known here.", expected=EXPECTED)
    return Wishes(output == "logits", top is not None, None if top in {None, "all"} else int(str(top)))


def write(model: str) -> dict[str, str]:
    """Return the header of an answer: which model and bundle it is from, nothing where that would be too long."""
    value = f"model={model}"
    return {HEADER: value} if len(value) <= MOST and value.isascii() and value.isprintable() else {}
