"""The Hugging Face hub's API for models: POST /models/NAME, which huggingface_hub's InferenceClient speaks."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from bertie.serve.endpoint import Endpoint
from bertie.serve.routes.documented import json, list_of, responses, takes
from bertie.serve.routes.sagemaker import SCORE, pipeline_body
from bertie.serve.wire.invocations import read_hub

EXAMPLES: dict[str, Any] = {
    "one text": {"inputs": "Where is my parcel?"},
    "the best label of two texts": {
        "inputs": ["Where is my parcel?", "Thank you so much!"],
        "parameters": {"top_k": 1},
    },
}


def router(endpoint: Endpoint) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["SageMaker, Hugging Face toolkit"])

    @routes.post(
        "/models/{model}",
        summary="Score texts as the Hugging Face hub does: a list of labels for each",
        response_class=Response,
        responses=responses(list_of(list_of(SCORE)), s404="No such model"),
        openapi_extra=takes(json(pipeline_body(), EXAMPLES)),
    )
    async def ask(request: Request, model: str) -> Response:
        return await endpoint.answer(request, read_hub, model)

    return routes
