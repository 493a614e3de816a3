"""The page for people at /, and what it alone asks for: POST /explain and GET /card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from bertie.serve.endpoint import Endpoint, while_connected
from bertie.serve.journal import note
from bertie.serve.routes.documented import TEXT, answers, json, list_of, responses, takes
from bertie.serve.wire.exchange import JSON, Limits, dump
from bertie.serve.wire.explain import read

FRONT = "index.html"

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Not asked of the system, whose table may say that a script is plain text; then no browser would run it."""

HEADERS = {
    # Texts of strangers are shown here: nothing but these files may run, and no string becomes markup.
    "content-security-policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Kept, but asked for again each time: an upgrade shows at once, and otherwise the answer is 304 without a body.
    "cache-control": "no-cache",
}

EXAMPLES: dict[str, Any] = {
    "one text": {"text": "Where is my parcel?"},
    "a pair of texts": {"text": "A man sleeps.", "text_pair": "Nobody is awake."},
}
BODY = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": TEXT,
        "text_pair": TEXT,
        "label": {"type": "string", "description": "The label to explain, if not the one the model chooses."},
    },
}
WORD = {
    "type": "object",
    "required": ["start", "end", "text", "weight"],
    "properties": {
        "start": {"type": "integer", "description": "Of the word's characters (Unicode code points) the first."},
        "end": {"type": "integer", "description": "One after the last."},
        "text": {"type": "string", "description": "A word; in a long text several, which were left out together."},
        "weight": {"type": "number", "description": "What the label's probability loses if the word is left out."},
        "in": {"enum": ["text", "text_pair"], "description": "For pairs: where the word stands."},
    },
}
ANSWER = {
    "type": "object",
    "required": ["label", "score", "words"],
    "properties": {
        "label": {"type": "string"},
        "score": {"type": "number", "description": "The label's probability for the whole text."},
        "words": list_of(WORD),
        "read": {"type": "integer", "description": "Where the text is longer than the model reads: up to here."},
    },
}


@dataclass(frozen=True)
class _File:
    """A file of the page, and the tag that changes with it."""

    content: bytes
    media_type: str

    def answer(self, request: Request) -> Response:
        tag = f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'
        headers = HEADERS | {"etag": tag}
        # Proxies that compress make the tag a weak one, W/"...".
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def router(endpoint: Endpoint) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["the page"])
    page = _files()

    @routes.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        return page[FRONT].answer(request)

    @routes.get("/page/{name}", include_in_schema=False)
    async def part(request: Request, name: str) -> Response:
        return page[name].answer(request) if name in page else Response(status_code=404, headers=HEADERS)

    @routes.get(
        "/card",
        summary="What the model is, and how good",
        response_class=Response,
        responses=answers({"type": "object"}, 404, 503),
    )
    async def model_card() -> Response:
        endpoint.models.check()
        settings = endpoint.settings
        limits = {"max_texts": settings.max_texts, "max_body_bytes": settings.max_body_bytes}
        async with endpoint.models.lease() as held:
            return Response(dump(await held.card() | {"limits": limits}), media_type=JSON)

    @routes.post(
        "/explain",
        summary="Which words an answer stands on",
        response_class=Response,
        responses=responses(ANSWER, s404="No such model"),
        openapi_extra=takes(json(BODY, EXAMPLES)),
    )
    async def explained(request: Request) -> Response:
        return await _explain(endpoint, request)

    return routes


async def _explain(endpoint: Endpoint, request: Request) -> Response:
    settings = endpoint.settings
    await endpoint.ready()
    endpoint.models.find()
    async with endpoint.body(request) as body, endpoint.models.lease(None, settings.timeout_seconds) as held:
        text, label = read(body, Limits(held.pairs, settings.max_texts))
        work = held.explain(text, label, timeout=settings.timeout_seconds)
        found = await while_connected(request, work)
    note(texts=1, explained=len(found["words"]))
    return Response(dump(found), media_type=JSON)


def _files() -> dict[str, _File]:
    """Return the page's files by name, read once."""
    folder = files("bertie.serve").joinpath("page")
    return {entry.name: _File(entry.read_bytes(), KINDS[Path(entry.name).suffix]) for entry in folder.iterdir()}
