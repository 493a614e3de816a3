"""The side of HTTP, while the process of the models dies."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from bertie.errors import NotReady
from bertie.serve.loop import run
from bertie.serve.workers import frames
from bertie.serve.workers.remote import RemoteModels


def test_whoever_asks_at_the_moment_of_its_death_hears_that_it_is_not_ready(tmp_path: Path) -> None:
    """The transport is closed some turns of the loop before the reader learns of it."""
    moments = 0

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await frames.read(reader)
        writer.transport.abort()

    async def scene() -> None:
        nonlocal moments
        models = RemoteModels()
        async with await asyncio.start_unix_server(die, tmp_path / "models"):
            running = asyncio.create_task(models.run(tmp_path / "models"))
            while models._writer is None:
                await asyncio.sleep(0.01)
            asked = []
            for _ in range(200):
                asked.append(asyncio.create_task(models.ask("page", {})))
                models.count("/invocations", 200)
                moments += models._writer is not None and models._writer.transport.is_closing()
                await asyncio.sleep(0)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert {type(answer) for answer in answers} == {NotReady}

    run(scene())
    assert moments  # the moment in question was met
