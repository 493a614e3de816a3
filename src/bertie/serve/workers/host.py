"""The side of the models: answers what the other processes ask over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertie import disk
from bertie.errors import BertieError, OutputError
from bertie.serve.models import Models
from bertie.serve.shares import Share
from bertie.serve.workers import frames
from bertie.tokens import Text

LOG = logging.getLogger("bertie")


def _text(told: Any) -> Text:
    """Return a text as it was before JSON, which has no pairs."""
    return (told[0], told[1]) if isinstance(told, list) else str(told)


def _forget(running: dict[int, asyncio.Task[None]], number: int, _: object) -> None:
    running.pop(number, None)


class Host:
    """Answers with the models of this process."""

    def __init__(self, models: Models, notes: Path | None = None) -> None:
        """Answer with some models; in the file `notes` stands what the next process has to know if this one dies."""
        self._models, self._notes, self._noted = models, notes, ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._asked: dict[str, Callable[[dict[str, Any]], Awaitable[tuple[dict[str, Any], bytes]]]] = {
            "classify": self._classify,
            "explain": self._explain,
            "card": self._card,
            "load": self._load,
            "unload": self._unload,
            "page": self._page,
        }
        models.changed = self.tell

    async def listen(self, path: Path) -> asyncio.Server:
        """Begin to answer at a path."""
        return await asyncio.start_unix_server(self._connection, path)

    def tell(self) -> None:
        """Tell all processes which models there are."""
        for writer in self._writers:
            frames.send(writer, self._state())
        noted = json.dumps(self._models.remember())
        if self._notes is not None and noted != self._noted:  # most often something was only put away or came back
            try:
                disk.write_text(self._notes, noted)
                self._noted = noted
            except OutputError as error:
                LOG.warning("if the process of the models dies, what was loaded over HTTP is forgotten: %s", error)

    def _state(self) -> dict[str, Any]:
        models = [asdict(one) | self._models.facts(one.name) for one in self._models.all()]
        return {"opened": self._models.opened, "models": models}

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        frames.send(writer, self._state())
        running: dict[int, asyncio.Task[None]] = {}
        try:
            while (frame := await frames.read(reader)) is not None:
                head, _ = frame
                if "count" in head:
                    self._models.count(*head["count"])
                elif "gone" in head:
                    if (task := running.get(head["gone"])) is not None:
                        task.cancel()
                else:
                    running[head["id"]] = asyncio.create_task(self._answer(head, writer))
                    running[head["id"]].add_done_callback(functools.partial(_forget, running, head["id"]))
        finally:
            self._writers.discard(writer)
            for task in running.values():
                task.cancel()
            writer.close()

    async def _answer(self, head: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        try:
            answer, blob = await self._asked[head["ask"]](head)
        except Exception as error:  # told to the process that asked; what is no error of ours is a fault of this one
            if not isinstance(error, BertieError):
                LOG.exception("a request failed in the process that holds the models")
            answer, blob = {"error": frames.error_to(error)}, b""
        if frames.send(writer, answer | {"id": head["id"]}, blob):
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    async def _classify(self, head: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        texts = [_text(text) for text in head["texts"]]
        async with self._models.lease(head["model"], head["timeout"]) as loaded:
            answer = await loaded.classify(texts, timeout=head["timeout"])
        facts = {"name": answer.name, "phases": answer.phases, "tokens": answer.tokens}
        return facts | {"decision": asdict(answer.decision)}, answer.logits.tobytes()

    async def _explain(self, head: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        async with self._models.lease(head["model"], head["timeout"]) as loaded:
            told = await loaded.explain(_text(head["text"]), head["label"], timeout=head["timeout"])
        return {"told": told}, b""

    async def _card(self, head: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        async with self._models.lease(head["model"]) as loaded:
            return {"told": await loaded.card()}, b""

    async def _load(self, head: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        shares = tuple(Share(Path(bundle), weight) for bundle, weight in head["shares"])
        await self._models.load(head["model"], shares, pinned=head["pinned"], new=head["new"])
        return {}, b""

    async def _unload(self, head: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        await self._models.unload(head["model"])
        return {}, b""

    async def _page(self, _: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        return {}, await self._models.page()
