"""From a request of any contract to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import Request, Response

from bertie.config import ServeSettings
from bertie.errors import ClientLeft, ClientSlow, RequestTooLarge
from bertie.serve.holder import Holder
from bertie.serve.wire.exchange import Ask, Found, Limits

Result = TypeVar("Result")

INLINE_BYTES = 2**16
"""Bodies up to this size are read at once, in a few milliseconds at most; larger ones must not hold up all others."""


class Endpoint:
    """Answers with the models of a server."""

    def __init__(self, settings: ServeSettings, models: Holder) -> None:
        self.settings, self.models = settings, models

    async def answer(
        self, request: Request, read: Callable[[bytes, Limits], Ask], model: str | None = None
    ) -> Response:
        """Read a request as some contract has it, predict, and return the answer. Raises BertieError.

        `model` is the name of the one that is asked, the server's first if there is none.
        """
        self.models.check()
        self.models.find(model)
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                body = await read_body(request, self.settings.max_body_bytes)
        except TimeoutError:
            raise ClientSlow(
                f"the request was not there after {self.settings.timeout_seconds:g} seconds.", hint="send it again"
            ) from None
        async with self.models.lease(model) as held:
            limits = Limits(held.pairs, self.settings.max_texts, self.settings.max_characters)
            ask = read(body, limits) if len(body) <= INLINE_BYTES else await to_thread.run_sync(read, body, limits)
            answer = await while_connected(request, held.classify(ask.texts, timeout=self.settings.timeout_seconds))
        reply = ask.reply(Found(answer.predictions, answer.logits, answer.decision.labels))
        timing = ", ".join(f"{phase};dur={1e3 * seconds:.3f}" for phase, seconds in answer.phases.items())
        headers = {"content-type": reply.media_type, "server-timing": timing, "x-model": answer.name}
        return Response(reply.body, headers=headers | reply.headers)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what some work returns; where the client leaves before that, cancel the work and raise ClientLeft."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft("the client has left.")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
