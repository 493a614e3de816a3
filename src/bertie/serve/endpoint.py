"""From a request of any contract to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from bertie.config import ServeSettings
from bertie.errors import ClientLeft, ClientSlow, RequestTooLarge
from bertie.serve.holder import Holder
from bertie.serve.journal import note_answer
from bertie.serve.memory import Memory
from bertie.serve.scheduler import INLINE_SCORES
from bertie.serve.wire.exchange import Ask, Found, Limits

Result = TypeVar("Result")

WATCH_AFTER = 0.05
"""Seconds that an answer takes before it is looked whether the client still waits for it."""

INLINE_BYTES = 2**16
"""Bodies up to this size are read at once, in a few milliseconds at most; larger ones must not hold up all others."""


ASIDE = 2
"""Large bodies that are read, and answers that are written, at once: JSON takes up to twenty times its bytes."""


class Endpoint:
    """Answers with the models of a server."""

    def __init__(self, settings: ServeSettings, models: Holder) -> None:
        self.settings, self.models = settings, models
        self.memory = Memory(settings.max_bodies_mb * 2**20)
        self._aside = CapacityLimiter(ASIDE)

    async def ready(self) -> None:
        """Wait for models that are gone for a moment. Raises NotReady where they do not come back, or never were."""
        await self.models.returned(self.settings.timeout_seconds)
        self.models.check()

    async def aside(self, large: bool, work: Callable[[], Result]) -> Result:
        """Return what some work returns that is done at once, or, where it is large, beside all others."""
        return await to_thread.run_sync(work, limiter=self._aside) if large else work()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Give a request's body, which counts as held until the block ends.

        Raises RequestTooLarge, Overloaded where too much is held for others, ClientSlow where it does not arrive in
        time, ClientLeft where it never will.
        """
        with self.memory.holding() as hold:
            try:
                async with asyncio.timeout(self.settings.timeout_seconds):
                    body = await read_body(request, self.settings.max_body_bytes, hold)
            except TimeoutError:
                raise ClientSlow(
                    f"the request was not there after {self.settings.timeout_seconds:g} seconds.", hint="send it again"
                ) from None
            yield body

    async def answer(
        self, request: Request, read: Callable[[bytes, Limits], Ask], model: str | None = None
    ) -> Response:
        """Read a request as some contract has it, predict, and return the answer. Raises BertieError.

        `model` is the name of the one that is asked, the server's first if there is none.
        """
        timeout = self.settings.timeout_seconds
        await self.ready()
        self.models.find(model)
        async with self.body(request) as body, self.models.lease(model, timeout) as held:
            limits = Limits(held.pairs, self.settings.max_texts, self.settings.max_characters)
            ask = await self.aside(len(body) > INLINE_BYTES, lambda: read(body, limits))
            answer = await while_connected(request, held.classify(ask.texts, timeout=timeout))
        note_answer(answer, len(ask.texts))
        reply = await self.aside(
            answer.logits.size > INLINE_SCORES,
            lambda: ask.reply(Found(answer.predictions, answer.logits, answer.decision.labels)),
        )
        timing = ", ".join(f"{phase};dur={1e3 * seconds:.3f}" for phase, seconds in answer.phases.items())
        headers = {"content-type": reply.media_type, "server-timing": timing, "x-model": answer.name}
        return Response(reply.body, headers=headers | reply.headers)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what some work returns; where the client leaves before that, cancel the work and raise ClientLeft."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        if task is not None:
            task.cancel()

    # Most answers are there before a task that waits for the client to leave would have paid.
    timer = loop.call_later(WATCH_AFTER, lambda: watching.append(asyncio.ensure_future(watch())))
    try:
        return await work
    except asyncio.CancelledError:
        if task is None or not (watching and watching[0].done()):
            raise
        task.uncancel()
        raise ClientLeft("the client has left.") from None
    finally:
        timer.cancel()
        for one in watching:
            one.cancel()


async def read_body(request: Request, most: int, hold: Callable[[int], None]) -> bytes:
    """Return the body, without ever holding more than `most` bytes of it; `hold` is told of each piece.

    Raises RequestTooLarge, or ClientLeft.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            hold(len(chunk))
            body += chunk
            if len(body) > most:
                raise RequestTooLarge(
                    f"the body is over {most} bytes.", expected=f"at most {most}", hint="send fewer texts"
                )
    except ClientDisconnect:
        raise ClientLeft("the client has left.") from None
    return bytes(body)
