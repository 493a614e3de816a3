"""The HTTP application: all contracts at once, /docs, and errors as answers."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertie.errors import BertieError
from bertie.serve.direct import Direct, routes_of
from bertie.serve.endpoint import Endpoint
from bertie.serve.holder import Holder
from bertie.serve.journal import note_error
from bertie.serve.metrics import CONTENT_TYPE
from bertie.serve.operations import enclose, guard
from bertie.serve.routes import hub, oip, page, repository, sagemaker, tei
from bertie.serve.routes.documented import PROBLEM, others
from bertie.serve.wire.exchange import dump, headers_of, write_error
from bertie.version import __version__


def make_app(endpoint: Endpoint) -> FastAPI:
    """Return the application."""
    app: FastAPI = FastAPIOffline(
        title="Bertie",
        version=__version__,
        description="A text classifier. Send texts to /invocations; /ping answers 200 when it is ready.",
        redoc_url=None,
        responses=others(PROBLEM),
    )
    models = (oip.router, repository.repository, repository.multi_model, hub.router)
    routers = [router(endpoint) for router in (page.router, sagemaker.router, tei.router, *models)]
    for router in routers:
        app.include_router(router)

    @app.exception_handler(BertieError)
    async def explain(_: Request, error: Exception) -> Response:
        return explained(error)

    @app.exception_handler(HTTPException)
    async def refuse(_: Request, error: Exception) -> Response:
        # No such path, or no such method there. FastAPI raises these, and they are not worth a class each.
        status, headers = getattr(error, "status_code", 404), getattr(error, "headers", None)
        known = HTTPStatus(status)
        body = {"error": {"code": known.phrase.title().replace(" ", ""), "message": f"{known.description}."}}
        return Response(dump(body), status, headers, media_type="application/json")

    @app.get("/metrics", summary="For Prometheus", response_class=Response, tags=["operations"])
    async def metrics() -> Response:
        return Response(await endpoint.models.page(), headers={"content-type": CONTENT_TYPE})

    # The innermost: whoever asks has to pass what is around it.
    app.add_middleware(Direct, routes=routes_of(routers, "/invocations", "/predict"), explain=explained)
    guard(app, endpoint.settings)
    app.add_middleware(Watch, models=endpoint.models)
    enclose(app, endpoint.settings)
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
    note_error(error)
    known = error if isinstance(error, BertieError) else BertieError("the server failed on this request.")
    return Response(
        write_error(known), status_code=known.http_status, media_type="application/json", headers=headers_of(known)
    )
