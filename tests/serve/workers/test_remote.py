"""The side of HTTP, while the process of the models dies."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from bertie.errors import NotReady
from bertie.serve.loop import run
from bertie.serve.workers import frames
from bertie.serve.workers.remote import RemoteModels


def test_requests_wait_for_a_process_that_comes_back_and_are_counted(tmp_path: Path) -> None:
    counted: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames.send(writer, {"models": [], "opened": True})
        while (frame := await frames.read(reader)) is not None:
            counted.append(frame[0].get("count"))
        writer.close()

    async def scene() -> None:
        models, path = RemoteModels(), tmp_path / "models"
        await models.returned(20)  # nobody was there yet, so that nobody comes back
        begun = asyncio.get_running_loop().time()
        await RemoteModels(again=True).returned(0.1)  # but who takes the place of another knows that somebody is
        assert asyncio.get_running_loop().time() - begun > 0.05
        running = asyncio.create_task(models.run(path))
        one = await asyncio.start_unix_server(serve, path)
        await models.ready.wait()
        one.close()
        assert models._writer is not None
        models._writer.transport.abort()
        while models._opened.is_set():
            await asyncio.sleep(0.01)
        for _ in range(3):
            models.count("/invocations", 503)
        with pytest.raises(NotReady):
            models.check()
        await models.returned(0.01)
        with pytest.raises(NotReady):
            models.check()
        waiting = asyncio.create_task(models.returned(20))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        path.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(serve, path):
            await waiting
            models.check()
            while not counted:
                await asyncio.sleep(0.01)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert counted == [["/invocations", 503, 3]]

    run(scene())


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
