"""The side of HTTP: models that another process holds."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertie.errors import DeadlinePassed, ModelUnknown, NotReady
from bertie.scores import Decision
from bertie.serve.holder import Described
from bertie.serve.scheduler import Answer
from bertie.serve.shares import Share
from bertie.serve.workers import frames
from bertie.tokens import Text

AGAIN_SECONDS = 0.1
"""How long after the other process has ended it is looked for again."""

RETURN_SECONDS = 10.0
"""How long requests wait for the other process, if it has died: it loads its models in a second or a few."""

SLACK_SECONDS = 1.0
"""How much longer than a request may take its answer is waited for, which the other process should have refused."""


@dataclass(frozen=True)
class RemoteModel:
    """A model that another process holds."""

    described: Described
    pairs: bool
    labels: tuple[str, ...]
    models: RemoteModels

    async def classify(self, texts: Sequence[Text], *, timeout: float) -> Answer:
        """Score texts. Raises as Scheduler.classify does, and NotReady where the other process ends meanwhile."""
        told, blob = await self._ask("classify", timeout, texts=texts)
        raw = told["decision"]
        decision = Decision(**raw | {"labels": tuple(raw["labels"]), "thresholds": tuple(raw["thresholds"])})
        logits = np.frombuffer(blob, dtype=np.float32).reshape(-1, len(decision.labels))
        return Answer(logits, decision, told["phases"], told["name"], told["tokens"])

    async def explain(self, text: Text, label: str | None, *, timeout: float) -> dict[str, Any]:
        """Say which words an answer stands on. Raises as the other process does."""
        answer, _ = await self._ask("explain", timeout, text=text, label=label)
        told: dict[str, Any] = answer["told"]
        return told

    async def card(self) -> dict[str, Any]:
        """Say what it is, and how good."""
        answer, _ = await self._ask("card", SLACK_SECONDS)
        told: dict[str, Any] = answer["told"]
        return told

    async def _ask(self, what: str, timeout: float, **facts: Any) -> tuple[dict[str, Any], bytes]:
        try:
            async with asyncio.timeout(timeout + SLACK_SECONDS):
                return await self.models.ask(what, {"model": self.described.name, "timeout": timeout} | facts)
        except TimeoutError:
            raise DeadlinePassed(f"the answer was not ready within {timeout:g} seconds.", hint="try again") from None


class RemoteModels:
    """The models of another process, as that process tells of them."""

    def __init__(self, *, again: bool = False) -> None:
        """Know of none yet; `again` says that this process takes the place of one that has died."""
        self._again = again
        self.closing = False
        """Whether the server takes nothing new."""
        self.ready = asyncio.Event()
        """Set once there was something to answer with."""
        self._opened = asyncio.Event()
        self._uncounted: Counter[tuple[str, int]] = Counter()
        self._models: dict[str, RemoteModel] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._numbers = itertools.count()

    async def run(self, path: Path) -> None:
        """Stay connected with the process that listens at a path, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(path)
                uncounted, self._uncounted = self._uncounted, Counter()
                for (route, status), times in uncounted.items():
                    self.count(route, status, times)
                try:
                    await self._listen(reader)
                finally:
                    self._lost()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (frame := await frames.read(reader)) is not None:
            head, blob = frame
            if "models" in head:
                if head["opened"]:
                    self.ready.set()
                    self._opened.set()
                else:
                    self._opened.clear()
                self._models = {one["name"]: self._told(one) for one in head["models"]}
            elif (waiting := self._waiting.pop(head["id"], None)) is not None and not waiting.done():
                if "error" in head:
                    waiting.set_exception(frames.error_from(head["error"]))
                else:
                    waiting.set_result((head, blob))

    def _told(self, one: dict[str, Any]) -> RemoteModel:
        described = Described(one["name"], tuple(one["bundles"]), one["loaded"])
        return RemoteModel(described, one["pairs"], tuple(one["labels"]), self)

    def _lost(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._opened.clear()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.done():
                one.set_exception(NotReady("the model's process has ended.", hint="send the request again"))

    async def ask(self, what: str, facts: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return what the other process answers. Raises what it raised."""
        number = next(self._numbers)
        if not self._send(facts | {"ask": what, "id": number}):
            raise NotReady("the model's process is starting.", hint="try again when GET /ping answers 200")
        answered: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            return await answered
        finally:
            if self._waiting.pop(number, None) is not None:
                self._send({"gone": number})

    def _send(self, head: dict[str, Any]) -> bool:
        """Tell the other process something; return whether it was there."""
        return self._writer is not None and frames.send(self._writer, head)

    def check(self) -> None:
        """Raise NotReady while models are loading, or the server is closing."""
        if self.closing:
            raise NotReady("the server is shutting down.", hint="send the request to another one")
        if not self._opened.is_set():
            raise NotReady("the model is still loading.", hint="try again when GET /ping answers 200")

    def all(self) -> list[Described]:
        """Return the models, the first one first."""
        return [model.described for model in self._models.values()]

    def find(self, name: str | None = None) -> Described:
        """Return a model, the first where there is no name. Raises ModelUnknown."""
        return self._find(name).described

    def _find(self, name: str | None) -> RemoteModel:
        model = next(iter(self._models.values()), None) if name is None else self._models.get(name)
        if model is None:
            raise ModelUnknown.of(name, self._models)
        return model

    @asynccontextmanager
    async def lease(self, name: str | None = None, timeout: float | None = None) -> AsyncIterator[RemoteModel]:
        """Give a model; the other process holds it while it answers, and minds the time. Raises ModelUnknown."""
        yield self._find(name)

    async def load(self, name: str, shares: tuple[Share, ...] = (), *, pinned: bool = True, new: bool = False) -> None:
        """Load a model, or replace it. Raises what `Models.load` does."""
        told = [(str(share.bundle), share.weight) for share in shares]
        await self.ask("load", {"model": name, "shares": told, "pinned": pinned, "new": new})

    async def unload(self, name: str) -> None:
        """Forget a model. Raises ModelUnknown."""
        await self.ask("unload", {"model": name})

    async def returned(self, timeout: float) -> None:
        """Wait for the other process where it was there once: it is started again, or this one is."""
        if self._opened.is_set() or self.closing or not (self._again or self.ready.is_set()):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout, RETURN_SECONDS)):
                await self._opened.wait()

    def count(self, path: str, status: int, times: int = 1) -> None:
        """Count requests, also while nobody is there to be told."""
        if not self._send({"count": (path, status, times)}):
            self._uncounted[path, status] += times

    async def page(self) -> bytes:
        """Return what Prometheus reads of the whole server."""
        _, page = await self.ask("page", {})
        return page
