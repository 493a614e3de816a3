"""The HTTP application: /ping, /invocations, /docs. Loading happens behind it, so that /ping can say how far it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline

from bertie.config import ServeSettings
from bertie.errors import BertieError, NotReady, RequestTooLarge
from bertie.runtime.classifier import Classifier
from bertie.serve import wire
from bertie.version import __version__

EXAMPLES: dict[str, Any] = {
    "one text": {"value": "Where is my parcel?"},
    "several texts": {"value": ["Where is my parcel?", "Thank you so much!"]},
    "an object": {"value": {"text": "Where is my parcel?"}},
    "the Hugging Face toolkit's": {"value": {"inputs": ["Where is my parcel?"]}},
    "a pair of texts": {"value": {"text": "A man sleeps.", "text_pair": "Nobody is awake."}},
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
PROBLEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {key: {"type": "string"} for key in ("code", "message", "expected", "hint")},
        }
    },
}


class Endpoint:
    """What the application answers with: a classifier once it is loaded, and until then why not."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.classifier: Classifier | None = None
        self.closing = False
        # One model call at a time: it uses all cores already.
        self._turn = CapacityLimiter(1)

    def ready(self) -> Classifier:
        """Return the classifier. Raises NotReady while it is loading, or the server is closing."""
        if self.closing:
            raise NotReady("the server is shutting down.", hint="send the request to another one")
        if self.classifier is None:
            raise NotReady("the model is still loading.", hint="try again when GET /ping answers 200")
        return self.classifier

    async def answer(self, request: Request) -> bytes:
        """Read a request, predict, and return the body of the answer. Raises BertieError."""
        classifier = self.ready()
        body = await read_body(request, self.settings.max_body_bytes)
        content_type = request.headers.get("content-type", "")
        ask = wire.read(body, content_type, pairs=classifier.pairs, max_texts=self.settings.max_texts)
        predictions = await to_thread.run_sync(classifier.predict, ask.texts, limiter=self._turn)
        return wire.write(predictions, single=ask.single)


def make_app(endpoint: Endpoint) -> FastAPI:
    """Return the application."""
    app: FastAPI = FastAPIOffline(
        title="Bertie",
        version=__version__,
        description="A text classifier. Send texts to /invocations; /ping answers 200 when it is ready.",
        redoc_url=None,
    )

    @app.get(
        "/ping",
        summary="Whether the model is loaded, warmed and has passed its probe",
        response_class=Response,
        responses={200: {"description": "Ready"}, 503: _problem("Loading, or shutting down")},
    )
    async def ping() -> Response:
        endpoint.ready()
        return Response(status_code=200)

    @app.post(
        "/invocations",
        summary="Classify one text, or several",
        response_class=Response,
        responses={
            200: {
                "description": "One answer, or one for each text",
                "content": _json({"anyOf": [ANSWER, _list(ANSWER)]}),
            },
            400: _problem("Not JSON"),
            413: _problem("Body or list over the limit"),
            415: _problem("Another content type than JSON"),
            422: _problem("JSON of another shape, or an empty text"),
            503: _problem("Loading, or shutting down"),
        },
        openapi_extra={"requestBody": {"required": True, "content": _json(_body(), EXAMPLES)}},
    )
    async def invocations(request: Request) -> Response:
        return Response(await endpoint.answer(request), media_type="application/json")

    @app.exception_handler(BertieError)
    async def explain(_: Request, error: Exception) -> Response:
        return explained(error)

    @app.middleware("http")
    async def hide_failures(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            return await follow(request)
        except Exception as error:
            return explained(error)

    return app


def explained(error: Exception) -> Response:
    """Return an error as a response; one that is not ours says nothing of the server's insides."""
    known = error if isinstance(error, BertieError) else BertieError("the server failed on this request.")
    return Response(wire.write_error(known), status_code=known.http_status, media_type="application/json")


async def read_body(request: Request, most: int) -> bytes:
    """Return the body, without ever holding more than `most` bytes of it. Raises RequestTooLarge."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RequestTooLarge(
                f"the body is over {most} bytes.", expected=f"at most {most}", hint="send fewer texts"
            )
    return bytes(body)


def _body() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    one = {
        "type": "object",
        "required": ["text"],
        "properties": {"text": text, "text_pair": text},
    }
    item = {"anyOf": [text, one]}
    several = _list(item) | {"minItems": 1}
    inputs = {"type": "object", "required": ["inputs"], "properties": {"inputs": {"anyOf": [item, several]}}}
    return {"anyOf": [text, one, several, inputs]}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _json(schema: dict[str, Any], examples: dict[str, Any] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    return {"application/json": content | ({"examples": examples} if examples else {})}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json(PROBLEM)}
