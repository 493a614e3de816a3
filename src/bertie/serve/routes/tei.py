"""text-embeddings-inference: POST /predict."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from bertie.serve.endpoint import Endpoint
from bertie.serve.routes.documented import TEXT, json, list_of, responses, takes
from bertie.serve.wire import tei

EXAMPLES: dict[str, Any] = {
    "one text": {"inputs": "Where is my parcel?"},
    "several texts": {"inputs": [["Where is my parcel?"], ["Thank you so much!"]]},
    "raw scores": {"inputs": "Where is my parcel?", "raw_scores": True},
}
SCORE = {"type": "object", "required": ["label", "score"]}
PARTS = list_of(TEXT) | {"minItems": 1, "maxItems": 2}
BODY = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"anyOf": [TEXT, PARTS, list_of(PARTS) | {"minItems": 1}]},
        "raw_scores": {"type": "boolean", "default": False},
    },
}


def router(endpoint: Endpoint) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["text-embeddings-inference"])

    @routes.post(
        "/predict",
        summary="Score one text, or several",
        response_class=Response,
        responses=responses({"anyOf": [list_of(SCORE), list_of(list_of(SCORE))]}),
        openapi_extra=takes(json(BODY, EXAMPLES)),
    )
    async def predict(request: Request) -> Response:
        return await endpoint.answer(request, tei.read)

    return routes
