from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from benchmarks.serving.load import Load, Plan, due_times, figures, parsed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the load generator uses epoll and timerfd")


@contextmanager
def answering(answer: Callable[[int, str], tuple[float, bytes]]) -> Iterator[int]:
    """Serve HTTP on a port: `answer` turns the number of a request and its body into seconds to wait, and bytes."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                body = await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
                count += 1
                seconds, raw = answer(count, body.decode())
                await asyncio.sleep(seconds)
                if not raw:
                    break
                writer.write(raw)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


async def _end() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def http(status: int, value: Any) -> bytes:
    body = json.dumps(value).encode()
    return (
        f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def ran(port: int, **others: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"bodies": ['"a"', '"b"'], "labels": [], "rate": 200.0, "seconds": 0.5}
    return Load(Plan(port=port, path="/x", **settings | others)).run()


def test_every_request_is_answered_and_counted() -> None:
    with answering(lambda number, body: (0.0, http(200 if number % 4 else 429, {}))) as port:
        found = ran(port)
    assert found["sent"] == len(due_times(200, 0.5, 0)) == sum(found["statuses"].values())
    assert found["statuses"]["429"] == found["sent"] // 4
    assert (found["hangs"], found["broken"]) == (0, 0)
    assert found["ms"].keys() == {"p50", "p90", "p99", "p99.9", "max"}
    assert sum(found["good_by_part"]) == found["statuses"]["200"]


def test_answers_are_compared_with_those_expected() -> None:
    expected = {"labels": [["a"], ["b", "c"]], "answer": ["found", 0]}
    with answering(lambda number, body: (0.0, http(200, {"found": [json.loads(body)]}))) as port:
        assert ran(port, **expected)["differ"] == 0
    with answering(lambda number, body: (0.0, http(200, {"found": ["a"]}))) as port:
        wrong = ran(port, **expected)
    assert 0 < wrong["differ"] < wrong["sent"]
    with answering(lambda number, body: (0.0, http(200, [])) if number % 2 else (0.0, http(200, {}))) as port:
        nonsense = ran(port, **expected)
    assert nonsense["differ"] == nonsense["sent"]


def test_who_waits_behind_a_stall_is_counted_from_when_the_request_was_due() -> None:
    """A server that answers one at a time and stalls for 0.4 s at its first request: the generator goes on sending."""
    free = asyncio.Lock()
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while await reader.read(65536):
            async with free:
                seen += 1
                if seen == 1:
                    await asyncio.sleep(0.4)
                writer.write(http(200, {}))
        writer.close()

    async def both() -> dict[str, Any]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await asyncio.to_thread(ran, port, rate=100.0, seconds=0.5, even=True)
        server.close()
        return found

    found = asyncio.run(both())
    # Those due in the first half of the stall waited for its second half; sending one after the other would have one.
    assert found["ms"]["max"] >= 390
    assert found["ms"]["p50"] >= 100
    assert found["most_in_flight"] >= 20


def test_no_answer_is_a_hang_and_no_latency() -> None:
    with answering(lambda number, body: (30.0, b"")) as port:
        found = ran(port, patience=0.2)
    assert found["hangs"] == found["sent"]
    assert (found["ms"], found["statuses"]) == ({}, {})


def test_a_connection_that_breaks_is_counted_and_the_next_request_has_a_new_one() -> None:
    with answering(lambda number, body: (0.0, b"" if number == 3 else http(200, {}))) as port:
        found = ran(port)
    assert found["broken"] == 1
    assert found["statuses"]["200"] == found["sent"] - 1
    with answering(lambda number, body: (0.0, b"SSH-2.0\r\n\r\n")) as port:
        other = ran(port)
    assert other["broken"] == other["sent"]


def test_nobody_listens() -> None:
    with answering(lambda number, body: (0.0, b"")) as port:
        pass
    found = ran(port)
    assert found["broken"] == found["sent"]


def test_due_times_are_a_poisson_process() -> None:
    times = due_times(1000, 20, seed=3)
    gaps = np.diff(times)
    assert 0 <= times[0] <= times[-1] < 20
    assert len(times) == pytest.approx(20_000, rel=0.03)
    # Of an exponential distribution the deviation is the mean, and 1/e of it is above the mean.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert float((gaps > gaps.mean()).mean()) == pytest.approx(np.exp(-1), rel=0.05)
    assert not np.array_equal(times[:10], due_times(1000, 20, seed=4)[:10])
    assert np.allclose(np.diff(due_times(50, 2, seed=0, even=True)), 0.02)


def test_an_answer_may_come_in_pieces() -> None:
    whole = http(200, {"label": "a"})
    for end in range(len(whole)):
        assert parsed(bytearray(whole[:end])) is None
    assert parsed(bytearray(whole)) == (200, b'{"label": "a"}')
    assert parsed(bytearray(b"HTTP/1.1 200 OK\r\n\r\n")) == (-1, b"")


def test_percentiles_of_nothing_are_nothing() -> None:
    assert figures(np.asarray([])) == {}
    assert figures(np.arange(101.0)) == {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
