"""How a real server stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.serve.process import running

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_is_a_clean_stop(tiny_bundle: Path, tmp_path: Path, workers: int) -> None:
    with running(tiny_bundle, tmp_path, "--quiet", "--grpc-port", 0, "--workers", workers) as server:
        assert httpx.get(f"{server.url}/ping").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert server.said() == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_accepted_work_is_finished_and_new_work_refused_while_it_drains(
    tiny_bundle: Path, tmp_path: Path, workers: int
) -> None:
    with running(tiny_bundle, tmp_path, "--quiet", "--drain-seconds", 2, "--workers", workers) as server:
        asking = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        asking.request("POST", "/invocations", json.dumps(["where is my parcel " * 10] * 3000))
        # One process reads requests in order: that one is under way when this one is answered.
        time.sleep(0.5 * (workers - 1))
        assert httpx.get(f"{server.url}/ping").status_code == 200
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for path, method in (("/ping", "GET"), ("/invocations", "POST"), ("/v2/health/ready", "GET")):
            response = httpx.request(method, f"{server.url}{path}", content=b'"a"')  # on a connection of its own
            assert (response.status_code, "shutting down" in response.text) == (503, True), path
        assert response.headers.get("x-request-id")
        with contextlib.closing(asking), asking.getresponse() as answer:
            assert answer.status == 200
            assert len(json.loads(answer.read())) == 3000
        assert server.process.wait(30) == 0
        assert time.monotonic() - begun >= 2
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/ping")


def test_a_second_sigterm_changes_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, "--quiet", "--drain-seconds", 1) as server:
        for _ in range(3):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert server.process.wait(30) == 0


def test_ctrl_c_is_told_by_the_exit_code(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, "--quiet", "--drain-seconds", 0) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130
    assert "Traceback" not in server.said()


def test_whoever_asks_while_it_stops_gets_an_answer_or_no_connection(tiny_bundle: Path, tmp_path: Path) -> None:
    answers: list[int | str] = []
    with running(tiny_bundle, tmp_path, "--quiet", "--queue-seconds", 30) as server:

        def ask() -> None:
            # ReadError: the system had taken the connection, the server had not yet when it stopped listening.
            with httpx.Client() as client, contextlib.suppress(httpx.ConnectError, httpx.ReadError):
                while True:
                    answers.append(client.post(f"{server.url}/invocations", json="i love it").status_code)
                    time.sleep(0.01)

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for one in asking:
            one.start()
        while answers.count(200) < 40:
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        for one in asking:
            one.join()
    assert set(answers) == {200, 503}
