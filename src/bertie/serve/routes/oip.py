"""The Open Inference Protocol, version 2: /v2."""

from __future__ import annotations

import json as json_module
from typing import Any

from fastapi import APIRouter, Request, Response

from bertie.errors import BertieError, ModelUnknown
from bertie.serve.endpoint import Endpoint
from bertie.serve.routes.documented import Responses, json, list_of, responses, takes
from bertie.serve.wire import oip
from bertie.version import __version__

EXAMPLES: dict[str, Any] = {
    "two texts": {
        "inputs": [
            {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["Where is my parcel?", "Thank you so much!"]}
        ]
    }
}
TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": list_of({"type": "integer"}),
        "datatype": {"type": "string"},
        "data": {"type": "array"},
    },
}
BODY = {
    "type": "object",
    "required": ["inputs"],
    "properties": {"id": {"type": ["string", "null"]}, "inputs": list_of(TENSOR), "outputs": {"type": "array"}},
}
PROBLEM = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ANSWER = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {"model_name": {"type": "string"}, "outputs": list_of(TENSOR)},
}


def router(endpoint: Endpoint) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    missing: Responses = {404: {"description": "No such model", "content": json(PROBLEM)}}

    @routes.get("", summary="The server")
    async def server() -> dict[str, Any]:
        return {"name": "bertie", "version": __version__, "extensions": []}

    @routes.get("/health/live", summary="Whether the server runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/health/ready", summary="Whether all models answer", response_class=Response)
    async def ready() -> Response:
        return _state("ready", endpoint)

    @routes.get("/models/{model}", summary="The model's inputs and outputs", responses=missing)
    @routes.get("/models/{model}/versions/{version}", summary="The same", responses=missing)
    async def metadata(model: str, version: str = "1") -> Response:
        try:
            _known(model, version, endpoint)
            classifier = endpoint.ready().classifier
        except BertieError as error:
            return _problem(error)
        return _json(oip.metadata(model, classifier.labels, pairs=classifier.pairs))

    @routes.get("/models/{model}/ready", summary="Whether the model answers", responses=missing)
    @routes.get("/models/{model}/versions/{version}/ready", summary="The same", responses=missing)
    async def model_ready(model: str, version: str = "1") -> Response:
        try:
            _known(model, version, endpoint)
        except BertieError as error:
            return _problem(error)
        return _state("ready", endpoint)

    answers = responses(ANSWER, PROBLEM, s404="No such model")
    body = takes(json(BODY, EXAMPLES))

    @routes.post("/models/{model}/infer", summary="Classify", responses=answers, openapi_extra=body)
    @routes.post("/models/{model}/versions/{version}/infer", summary="The same", responses=answers, openapi_extra=body)
    async def infer(request: Request, model: str, version: str = "1") -> Response:
        length = request.headers.get("inference-header-content-length", "")
        try:
            _known(model, version, endpoint)
            return await endpoint.answer(request, lambda body, limits: oip.read(body, length, model, limits))
        except BertieError as error:
            return _problem(error)

    return routes


def _known(model: str, version: str, endpoint: Endpoint) -> None:
    if (model, version) != (endpoint.settings.name, "1"):
        raise ModelUnknown(
            f"there is no model {model[:100]!r} of version {version[:100]!r} here.",
            expected=f"{endpoint.settings.name}, version 1",
        )


def _state(word: str, endpoint: Endpoint) -> Response:
    try:
        endpoint.ready()
    except BertieError as error:
        return _problem(error)
    return _json({word: True})


def _problem(error: BertieError) -> Response:
    """Return an error as the protocol has it: one string."""
    return _json({"error": str(error)}, error.http_status)


def _json(value: Any, status: int = 200) -> Response:
    return Response(json_module.dumps(value, ensure_ascii=False), status, media_type="application/json")
