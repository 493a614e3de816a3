"""Pieces of the OpenAPI document."""

from __future__ import annotations

from typing import Any, TypeAlias

# At least one character that is none of those that str.strip takes away; \ufeff is a space in JavaScript's eyes alone.
TEXT: dict[str, Any] = {"type": "string", "pattern": r"[^\s\x1c-\x1f\x85\ufeff]"}

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {key: {"type": "string"} for key in ("code", "message", "expected", "hint")},
        }
    },
}

STATES = {
    400: "The body does not parse",
    408: "The request took too long to arrive",
    413: "Body or list over the limit",
    422: "Well formed, but of another shape, or an empty text",
    429: "More waits than can be answered in time; Retry-After says when to come back",
    503: "Loading, or shutting down",
    504: "Not ready within the time allowed for an answer",
}

OTHERS = {
    404: "No such model",
    409: "A model of that name is loaded already",
    500: "The bundle cannot be used",
    507: "No memory for a further model",
}

Responses: TypeAlias = dict[int | str, dict[str, Any]]


def responses(answer: dict[str, Any], problem: dict[str, Any] | None = None, **others: str) -> Responses:
    """Return the answers of a path: the good one, the problems all share, and `others` such as `s406="..."`."""
    problems = STATES | {int(name[1:]): text for name, text in others.items()}
    found: Responses = {200: {"description": "The answer", "content": json(answer)}}
    for status, text in sorted(problems.items()):
        found[status] = {"description": text, "content": json(problem or PROBLEM)}
    return found


def answers(good: dict[str, Any] | None, *statuses: int, problem: dict[str, Any] | None = None) -> Responses:
    """Return the answers of a path that asks no model: the good one, and the problems there may be."""
    found: Responses = {200: {"description": "Done"} | ({"content": json(good)} if good else {})}
    texts = STATES | OTHERS
    return found | {status: {"description": texts[status], "content": json(problem or PROBLEM)} for status in statuses}


def json(schema: dict[str, Any], examples: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of a body of JSON; `examples` are values by their names."""
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def others(problem: dict[str, Any]) -> Responses:
    """Return what FastAPI would else make up: each path has problems that need no line of their own, such as a 405."""
    return {"4XX": {"description": "Another problem with the request", "content": json(problem)}}


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def takes(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a path needs to say of its body."""
    return {"requestBody": {"required": True, "content": content}}
