"""The HTTP application: all contracts at once, /docs, and errors as answers."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertie.errors import BertieError, NotReady, Overloaded
from bertie.serve.direct import Direct, routes_of
from bertie.serve.endpoint import Endpoint
from bertie.serve.holder import Holder
from bertie.serve.metrics import CONTENT_TYPE
from bertie.serve.routes import oip, page, repository, sagemaker, tei
from bertie.serve.wire.exchange import write_error
from bertie.version import __version__


def make_app(endpoint: Endpoint) -> FastAPI:
    """Return the application."""
    app: FastAPI = FastAPIOffline(
        title="Bertie",
        version=__version__,
        description="A text classifier. Send texts to /invocations; /ping answers 200 when it is ready.",
        redoc_url=None,
    )
    contracts = (page.router, sagemaker.router, tei.router, repository.repository, oip.router, repository.multi_model)
    routers = [router(endpoint) for router in contracts]
    for router in routers:
        app.include_router(router)

    @app.exception_handler(BertieError)
    async def explain(_: Request, error: Exception) -> Response:
        return explained(error)

    @app.get("/metrics", summary="For Prometheus", response_class=Response, tags=["operations"])
    async def metrics() -> Response:
        return Response(await endpoint.models.page(), headers={"content-type": CONTENT_TYPE})

    app.add_middleware(Direct, routes=routes_of(routers, "/invocations", "/predict"), explain=explained)
    app.add_middleware(Watch, models=endpoint.models)
    return app


class Watch:
    """Counts requests, and turns an error that nobody expected into an answer that says nothing of the insides."""

    def __init__(self, app: ASGIApp, models: Holder) -> None:
        self._app, self._models = app, models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if status:
                raise
            await explained(error)(scope, receive, watched)
        finally:
            # By the path as it is written in the routes: what clients make up must not become a label.
            self._models.count(getattr(scope.get("route"), "path", "other"), status)


def explained(error: Exception) -> Response:
    """Return an error as a response; one that is not ours says nothing of the server's insides."""
    known = error if isinstance(error, BertieError) else BertieError("the server failed on this request.")
    # What waits is at most a fraction of a second's work, and seconds are the unit of the header.
    headers = {"retry-after": "1"} if isinstance(known, Overloaded | NotReady) else {}
    return Response(write_error(known), status_code=known.http_status, media_type="application/json", headers=headers)
