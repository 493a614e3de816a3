"""The Open Inference Protocol, version 2: /v2."""

from __future__ import annotations

import functools
import json as json_module
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

from fastapi import APIRouter, Request, Response

from bertie.errors import BertieError
from bertie.serve.endpoint import Endpoint
from bertie.serve.journal import note_error
from bertie.serve.routes.documented import Responses, json, list_of, others, responses, takes
from bertie.serve.wire import oip
from bertie.serve.wire.exchange import headers_of
from bertie.version import __version__

Given = ParamSpec("Given")

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
    "properties": {
        "id": {"type": ["string", "null"]},
        "inputs": list_of(TENSOR),
        "outputs": list_of(
            {"type": "object", "required": ["name"], "properties": {"name": {"enum": list(oip.OUTPUTS)}}}
        ),
        "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
    },
}
PROBLEM = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ANSWER = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {"model_name": {"type": "string"}, "outputs": list_of(TENSOR)},
}


def router(endpoint: Endpoint) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], responses=others(PROBLEM))
    loading: Responses = {503: {"description": "Loading, or shutting down", "content": json(PROBLEM)}}
    missing: Responses = loading | {404: {"description": "No such model", "content": json(PROBLEM)}}

    @routes.get("", summary="The server")
    async def server() -> dict[str, Any]:
        return {"name": "bertie", "version": __version__, "extensions": ["binary_tensor_data", "model_repository"]}

    @routes.get("/health/live", summary="Whether the server runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/health/ready", summary="Whether all models answer", responses=loading)
    @as_problem
    async def ready() -> Response:
        endpoint.models.check()
        return _json({"ready": True})

    @routes.get("/models/{model}", summary="The model's inputs and outputs", responses=missing)
    @routes.get("/models/{model}/versions/{version}", summary="The same", responses=missing)
    @as_problem
    async def metadata(model: str, version: str = "1") -> Response:
        _check(model, version, endpoint)
        async with endpoint.models.lease(model) as held:
            return _json(oip.metadata(model, held.labels, pairs=held.pairs))

    @routes.get("/models/{model}/ready", summary="Whether the model answers", responses=missing)
    @routes.get("/models/{model}/versions/{version}/ready", summary="The same", responses=missing)
    @as_problem
    async def model_ready(model: str, version: str = "1") -> Response:
        _check(model, version, endpoint)
        return _json({"name": model, "ready": True})

    answers = responses(ANSWER, PROBLEM, s404="No such model")
    body = takes(json(BODY, EXAMPLES))

    @routes.post("/models/{model}/infer", summary="Classify", responses=answers, openapi_extra=body)
    @routes.post("/models/{model}/versions/{version}/infer", summary="The same", responses=answers, openapi_extra=body)
    @as_problem
    async def infer(request: Request, model: str, version: str = "1") -> Response:
        length = request.headers.get("inference-header-content-length", "")
        await endpoint.ready()
        _check(model, version, endpoint)
        return await endpoint.answer(request, lambda body, limits: oip.read(body, length, model, limits), model)

    return routes


def _check(model: str, version: str, endpoint: Endpoint) -> None:
    """Raise NotReady, or ModelUnknown for a model that is not here."""
    endpoint.models.check()
    endpoint.models.find(model)
    oip.check_version(version)


def as_problem(route: Callable[Given, Awaitable[Response]]) -> Callable[Given, Awaitable[Response]]:
    """Have a route tell its errors as the protocol does: as one string."""

    @functools.wraps(route)
    async def told(*given: Given.args, **named: Given.kwargs) -> Response:
        try:
            return await route(*given, **named)
        except BertieError as error:
            note_error(error)
            return _json({"error": str(error)}, error.http_status, headers_of(error))

    return told


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_module.dumps(value, ensure_ascii=False), status, headers, media_type="application/json")
