from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from bertie import load
from bertie.config import ServeSettings
from bertie.serve import endpoint as module
from bertie.serve import loaded, scheduler
from bertie.serve.app import make_app
from bertie.serve.server import endpoint_for
from bertie.serve.wire import invocations

pytestmark = pytest.mark.anyio


async def test_large_work_is_done_beside_the_loop_and_little_of_it_at_once(tiny_bundle: Path) -> None:
    endpoint = endpoint_for(load(tiny_bundle), ServeSettings())
    assert await endpoint.aside(False, threading.current_thread) is threading.current_thread()
    running, most, lock = 0, 0, threading.Lock()

    def work() -> threading.Thread:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1
        return threading.current_thread()

    threads = await asyncio.gather(*(endpoint.aside(True, work) for _ in range(8)))
    assert threading.current_thread() not in threads
    assert most == module.ASIDE


@pytest.mark.parametrize("inline", [0, 10**6])
async def test_large_answers_are_written_beside_the_loop(
    inline: int, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoint_for(load(tiny_bundle), ServeSettings())
    for place in (module, loaded):
        monkeypatch.setattr(place, "INLINE_SCORES", inline)
    threads: dict[str, threading.Thread] = {}

    def seen(place: ModuleType, name: str) -> None:
        real = getattr(place, name)

        def told(*given: Any) -> Any:
            threads[name] = threading.current_thread()
            return real(*given)

        monkeypatch.setattr(place, name, told)

    seen(invocations, "dump")
    seen(scheduler, "predictions")
    transport = httpx.ASGITransport(make_app(endpoint))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/invocations", json=["ok"] * 5)
    assert len(answer.json()) == 5
    assert threads.keys() == {"dump", "predictions"}
    assert all((thread is threading.current_thread()) == bool(inline) for thread in threads.values())
