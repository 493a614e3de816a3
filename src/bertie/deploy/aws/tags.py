"""The tag by which everything that was made under one name is found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

NAME = "bertie:name"


def tags(name: str, others: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """Return the Tags of a request: the name, and those of the user."""
    pairs = {NAME: name, **(others or {})}
    return [{"Key": key, "Value": value} for key, value in pairs.items()]


def tagged(found: list[dict[str, Any]], name: str) -> bool:
    """Tell whether the tags of a resource say that it belongs to a name."""
    return {"Key": NAME, "Value": name} in found


def as_query(pairs: list[dict[str, str]]) -> str:
    """Return tags in the form in which S3 takes those of an object, of which it holds ten."""
    return urlencode({tag["Key"]: tag["Value"] for tag in pairs[:10]})
