"""Models over HTTP: SageMaker's multi-model API at /models, and Triton's repository extension at /v2/repository.

Both load only what lies in the folder that the server was given with --model-store, and what it served from the start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from bertie.errors import ModelUnknown, RequestInvalid
from bertie.serve.endpoint import Endpoint
from bertie.serve.holder import Described
from bertie.serve.routes.documented import TEXT, answers, json, list_of, others, takes
from bertie.serve.routes.oip import PROBLEM as PROTOCOL_PROBLEM
from bertie.serve.routes.oip import as_problem
from bertie.serve.routes.sagemaker import invocation
from bertie.serve.routes.sagemaker import invoke as invoked
from bertie.serve.shares import NAME, Share
from bertie.serve.wire.exchange import dump, parse

SHAPES = '{"model_name": "NAME", "url": "/opt/ml/models/NAME/model"}'
MODEL: dict[str, Any] = {
    "type": "object",
    "required": ["modelName", "modelUrl"],
    "properties": {"modelName": {"type": "string"}, "modelUrl": {"type": "string"}},
}
LOAD: dict[str, Any] = {
    "type": "object",
    "required": ["model_name", "url"],
    "properties": {"model_name": {"type": "string", "pattern": f"^{NAME.pattern}$"}, "url": TEXT},
}
EXAMPLES = {"SageMaker's": {"model_name": "support", "url": "/opt/ml/models/support/model"}}
LIST: dict[str, Any] = {"type": "object", "required": ["models"], "properties": {"models": list_of(MODEL)}}
INDEX: dict[str, Any] = list_of(
    {"type": "object", "properties": {key: {"type": "string"} for key in ("name", "version", "state", "reason")}}
)


def multi_model(endpoint: Endpoint) -> APIRouter:
    """Return the routes of SageMaker's multi-model API."""
    routes = APIRouter(prefix="/models", tags=["SageMaker multi-model"])

    @routes.get("", summary="The models", responses=answers(LIST, 503))
    async def listed() -> Response:
        endpoint.models.check()
        return _json({"models": [_described(model) for model in endpoint.models.all()]})

    @routes.post(
        "",
        summary="Load a model",
        responses=answers(MODEL, 400, 404, 409, 413, 422, 500, 503, 507),
        openapi_extra=takes(json(LOAD, EXAMPLES)),
    )
    async def load(request: Request) -> Response:
        endpoint.models.check()
        refuse_other_pages(request, endpoint)
        async with endpoint.body(request) as body:
            asked = parse(body, SHAPES)
        name, url = (asked.get(key) if isinstance(asked, dict) else None for key in ("model_name", "url"))
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(url, str):
            raise RequestInvalid("the body names no model, or one with letters it may not have.", expected=SHAPES)
        await endpoint.models.load(name, (Share(_stored(url, endpoint)),), pinned=False, new=True)
        return _json(_described(endpoint.models.find(name)))

    @routes.get("/{model}", summary="One model", responses=answers(MODEL, 404, 503))
    async def one(model: str) -> Response:
        endpoint.models.check()
        return _json(_described(endpoint.models.find(model)))

    @routes.delete("/{model}", summary="Unload a model", responses=answers(None, 404, 422, 503))
    async def unload(model: str) -> Response:
        endpoint.models.check()
        await endpoint.models.unload(model)
        return Response()

    @routes.post("/{model}/invoke", summary="Classify with one of the models", **invocation(s404="No such model"))
    async def invoke(request: Request, model: str) -> Response:
        return await invoked(endpoint, request, model)

    return routes


def repository(endpoint: Endpoint) -> APIRouter:
    """Return the routes of the repository extension."""
    routes = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol"], responses=others(PROTOCOL_PROBLEM))

    @routes.post(
        "/index", summary="The models and their states", responses=answers(INDEX, 503, problem=PROTOCOL_PROBLEM)
    )
    @as_problem
    async def index() -> Response:
        endpoint.models.check()
        states = [("READY" if model.loaded else "UNAVAILABLE", model.name) for model in endpoint.models.all()]
        return _json([{"name": name, "version": "1", "state": state, "reason": ""} for state, name in states])

    faults = answers(None, 404, 422, 500, 503, 507, problem=PROTOCOL_PROBLEM)

    @routes.post("/models/{model}/load", summary="Load a model, or replace it by what is on disk", responses=faults)
    @as_problem
    async def load(request: Request, model: str) -> Response:
        endpoint.models.check()
        refuse_other_pages(request, endpoint)
        known = any(one.name == model for one in endpoint.models.all())
        shares: tuple[Share, ...] = ()
        if not known and not NAME.fullmatch(model):
            raise ModelUnknown.of(model, ())
        if not known and endpoint.settings.model_store is not None:
            folder = _stored(model, endpoint)
            # SageMaker puts a model into a folder of that name within its own.
            shares = (Share(folder / "model" if (folder / "model").is_dir() else folder),)
        await endpoint.models.load(model, shares, pinned=False)
        return _json({})

    unloaded = answers(None, 404, 422, 503, problem=PROTOCOL_PROBLEM)

    @routes.post("/models/{model}/unload", summary="Unload a model", responses=unloaded)
    @as_problem
    async def unload(request: Request, model: str) -> Response:
        endpoint.models.check()
        refuse_other_pages(request, endpoint)
        await endpoint.models.unload(model)
        return _json({})

    return routes


def refuse_other_pages(request: Request, endpoint: Endpoint) -> None:
    """Raise RequestInvalid for what a page of another site asks: a browser sends it from within, without a question."""
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc == request.headers.get("host"):
        return
    if origin not in endpoint.settings.cors_origins.split(","):
        raise RequestInvalid("pages of other sites load and unload no models here.", hint="see --cors-origins")


def _stored(path: str, endpoint: Endpoint) -> Path:
    """Return a path within the folder of models. Raises RequestInvalid: clients must not read the rest of the disk."""
    store = endpoint.settings.model_store
    if store is None:
        raise RequestInvalid("this server loads no models over HTTP.", hint="start it with --model-store FOLDER")
    try:
        found = (store / path).resolve()
        inside, there = found.is_relative_to(store.resolve()) and found != store.resolve(), found.exists()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise RequestInvalid("the bundle lies outside the folder of models.", expected="a path within --model-store")
    if not there:
        raise ModelUnknown("there is no such bundle in the folder of models.")
    return found


def _described(model: Described) -> dict[str, str]:
    return {"modelName": model.name, "modelUrl": ",".join(model.bundles)}


def _json(value: Any) -> Response:
    return Response(dump(value), media_type="application/json")
