"""SageMaker: GET /ping, POST /invocations."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from bertie.sagemaker_environment import execution_parameters
from bertie.serve.endpoint import Endpoint
from bertie.serve.routes.documented import PROBLEM, TEXT, json, list_of, responses, takes
from bertie.serve.wire import attributes
from bertie.serve.wire.invocations import read

EXAMPLES: dict[str, Any] = {
    "one text": "Where is my parcel?",
    "several texts": ["Where is my parcel?", "Thank you so much!"],
    "an object": {"text": "Where is my parcel?"},
    "the Hugging Face toolkit's": {"inputs": ["Where is my parcel?"]},
    "all labels, as transformers gives them": {"inputs": "Where is my parcel?", "parameters": {"top_k": None}},
    "a pair of texts": {"text": "A man sleeps.", "text_pair": "Nobody is awake."},
}
ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["label", "score", "scores"],
    "properties": {
        "label": {
            "type": ["string", "null"],
            "description": "The chosen label; null where none is over its threshold.",
        },
        "score": {"type": "number", "description": "The probability of the chosen label."},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "labels": {"type": "array", "items": {"type": "string"}, "description": "In multi-label tasks, all chosen."},
    },
}
SCORE = {"type": "object", "required": ["label", "score"]}
EXECUTION: dict[str, Any] = {
    "type": "object",
    "required": ["MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"],
    "properties": {
        "MaxConcurrentTransforms": {"type": "integer"},
        "BatchStrategy": {"enum": ["MULTI_RECORD", "SINGLE_RECORD"]},
        "MaxPayloadInMB": {"type": "integer"},
    },
}


ONE: dict[str, Any] = {"type": "object", "required": ["text"], "properties": {"text": TEXT, "text_pair": TEXT}}
SEVERAL: dict[str, Any] = list_of({"anyOf": [TEXT, ONE]}) | {"minItems": 1}


def pipeline_body() -> dict[str, Any]:
    """Return the schema of a body with `inputs`, and `parameters` as transformers' pipeline takes them."""
    parameters = {
        "type": ["object", "null"],
        "properties": {
            "top_k": {"type": ["integer", "null"], "minimum": 1},
            "function_to_apply": {"enum": [None, "none"]},
        },
    }
    properties = {"inputs": {"anyOf": [TEXT, ONE, SEVERAL]}, "parameters": parameters}
    return {"type": "object", "required": ["inputs"], "properties": properties}


CONTENT = json({"anyOf": [TEXT, ONE, SEVERAL, pipeline_body()]}, EXAMPLES) | {
    "application/jsonlines": {
        "schema": {"type": "string"},
        "example": '"Where is my parcel?"\n{"text": "Thank you!"}\n',
    },
    "text/csv": {"schema": {"type": "string"}, "example": '"Where is my parcel, please?"\nThank you!\n'},
    "text/plain": {"schema": {"type": "string"}, "example": "Where is my parcel?\nThank you!\n"},
}


def router(endpoint: Endpoint) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["SageMaker, Hugging Face toolkit"])

    @routes.get(
        "/ping",
        summary="Whether the model is loaded, warmed and has passed its probe",
        response_class=Response,
        responses={
            200: {"description": "Ready"},
            503: {"description": "Loading, or shutting down", "content": json(PROBLEM)},
        },
    )
    async def ping() -> Response:
        endpoint.models.check()
        return Response(status_code=200)

    @routes.get(
        "/execution-parameters",
        summary="What a batch transform is to use where its request does not say",
        responses={200: {"description": "The parameters", "content": json(EXECUTION)}},
    )
    async def execution() -> dict[str, Any]:
        return execution_parameters(endpoint.settings.max_body_bytes)

    @routes.post("/invocations", summary="Classify one text, or several", **invocation())
    async def invocations(request: Request) -> Response:
        return await invoke(endpoint, request)

    return routes


def invocation(**others: str) -> dict[str, Any]:
    """Return what is to be said of a path that takes all that /invocations takes; `others` as for `responses`."""
    answers = {"anyOf": [ANSWER, list_of(ANSWER), list_of(SCORE), list_of(list_of(SCORE))]}
    others |= {"s406": "No kind of answer that the client takes", "s415": "A content type that is not known here"}
    told = responses(answers, None, **others)
    told[200]["content"] |= {kind: {"schema": {"type": "string"}} for kind in ("application/jsonlines", "text/csv")}
    return {"response_class": Response, "responses": told, "openapi_extra": takes(CONTENT)}


async def invoke(endpoint: Endpoint, request: Request, model: str | None = None) -> Response:
    """Answer what came to /invocations, or to the like path of one model."""
    kind, accept, custom = (request.headers.get(name, "") for name in ("content-type", "accept", attributes.HEADER))
    if accept.strip() in {"", "*/*"}:
        accept = endpoint.settings.default_accept
    response = await endpoint.answer(request, lambda body, limits: read(body, kind, accept, limits, custom), model)
    response.headers.update(attributes.write(response.headers["x-model"]))
    return response
