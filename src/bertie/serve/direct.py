"""A short way to the busiest paths: past FastAPI's routing, which takes as long as tokenizing and answering do.

The routes themselves stay where they are, in the OpenAPI document and for requests that come in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from bertie.errors import BertieError


class Direct:
    """Middleware that answers POST requests to some paths, spelled exactly so, with a function each.

    It is to be the innermost, so that whatever is around the application is around these paths too.
    """

    def __init__(self, app: ASGIApp, routes: dict[str, APIRoute], explain: Callable[[BertieError], Response]) -> None:
        self._app, self._routes, self._explain = app, routes, explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        route = None
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            route = self._routes.get(scope["path"])
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.endpoint(Request(scope, receive, send))
        except BertieError as error:
            response = self._explain(error)
        await response(scope, receive, send)


def routes_of(routers: Sequence[APIRouter], *paths: str) -> dict[str, APIRoute]:
    """Return the routes that take POST at some paths, by path; their functions take the request alone."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    found = {route.path: route for route in routes if "POST" in (route.methods or ())}
    return {path: found[path] for path in paths}
