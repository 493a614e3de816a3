"""What answers requests of any contract: a scheduler once the model is loaded, and until then why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response

from bertie.config import ServeSettings
from bertie.errors import ClientLeft, ClientSlow, NotReady, RequestTooLarge
from bertie.runtime.classifier import Classifier
from bertie.serve.batching import Batch
from bertie.serve.metrics import Metrics
from bertie.serve.scheduler import Scheduler
from bertie.serve.wire.exchange import Ask, Found, Limits

Result = TypeVar("Result")


class Endpoint:
    """Answers with one model."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.scheduler: Scheduler | None = None
        self.closing = False
        self.metrics = Metrics()

    def open(self, classifier: Classifier) -> None:
        """Be ready from now on."""
        self.scheduler = Scheduler(
            classifier,
            batch_tokens=self.settings.batch_tokens,
            queue_seconds=self.settings.queue_seconds,
            observe=self._ran,
        )
        self.metrics.watch_queue(lambda scheduler=self.scheduler: scheduler.tokens)  # type: ignore[misc]  # binds it now

    def ready(self) -> Scheduler:
        """Return what answers. Raises NotReady while the model is loading, or the server is closing."""
        if self.closing:
            raise NotReady("the server is shutting down.", hint="send the request to another one")
        if self.scheduler is None:
            raise NotReady("the model is still loading.", hint="try again when GET /ping answers 200")
        return self.scheduler

    def _ran(self, batch: Batch) -> None:
        lengths = batch.lengths
        self.metrics.batch(len(lengths), int(lengths.sum()), len(lengths) * int(lengths.max()))

    def close(self) -> None:
        """Answer what was accepted, and stop."""
        self.closing = True
        if self.scheduler is not None:
            self.scheduler.close()

    async def body(self, request: Request) -> bytes:
        """Return a request's body. Raises RequestTooLarge, or ClientSlow where it does not arrive in time."""
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                return await read_body(request, self.settings.max_body_bytes)
        except TimeoutError:
            raise ClientSlow(
                f"the request was not there after {self.settings.timeout_seconds:g} seconds.", hint="send it again"
            ) from None

    async def answer(self, request: Request, read: Callable[[bytes, Limits], Ask]) -> Response:
        """Read a request as some contract has it, predict, and return the answer. Raises BertieError."""
        scheduler = self.ready()
        body = await self.body(request)
        ask = read(body, Limits(scheduler.classifier.pairs, self.settings.max_texts))
        answer = await while_connected(request, scheduler.classify(ask.texts, timeout=self.settings.timeout_seconds))
        self.metrics.answer(answer.predictions, answer.phases)
        timing = ", ".join(f"{phase};dur={1e3 * seconds:.3f}" for phase, seconds in answer.phases.items())
        reply = ask.reply(Found(answer.predictions, answer.logits, scheduler.classifier.labels))
        return Response(reply.body, headers={"content-type": reply.media_type, "server-timing": timing})


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
