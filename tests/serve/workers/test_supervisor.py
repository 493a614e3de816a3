"""Real processes, some of which are killed."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bertie import load
from bertie.serve.workers.supervisor import Child
from tests.conftest import Bertie

pytestmark = pytest.mark.slow
TEXTS = ["where is my parcel", "i love it"]
STARTING = 60
"""Seconds in which a process must be there again, on a machine that is busy with other things."""


class Running:
    """A server with two processes that speak HTTP."""

    def __init__(self, bundle: Path, *options: str) -> None:
        command = [
            sys.executable,
            "-m",
            "bertie",
            "serve",
            str(bundle),
            "--workers",
            "2",
            "--port",
            "0",
            "--json",
            "-q",
        ]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def children(self) -> list[int]:
        """The processes: that of the models first."""
        of = self.process.pid
        return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]

    def workers(self) -> list[int]:
        """Those that listen for HTTP, by how they were started; the helper of multiprocessing is none."""
        return [pid for pid in self.children() if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        _, self.said = self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def running(tiny_bundle: Path) -> Iterator[Running]:
    server = Running(tiny_bundle, "--queue-seconds", "5")
    yield server
    if server.process.poll() is None:
        server.stop()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTING
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping").status_code == 200
    except httpx.TransportError:
        return False


def test_they_answer_as_one_server(running: Running, tiny_bundle: Path) -> None:
    expected = [one.label for one in load(tiny_bundle).predict(TEXTS)]
    for _ in range(20):
        answer = httpx.post(f"{running.url}/invocations", json=TEXTS)
        assert [one["label"] for one in answer.json()] == expected
    for body, status in ((b"nope", 400), (b"[]", 422)):
        assert httpx.post(f"{running.url}/invocations", content=body).status_code == status
    assert httpx.post(f"{running.url}/v2/models/other/infer", json={}).status_code == 404
    for _ in range(4):  # whichever process answers
        assert (
            'bertie_requests_total{path="/invocations",status="200"} 20.0' in httpx.get(f"{running.url}/metrics").text
        )
    explained = httpx.post(f"{running.url}/explain", json={"text": TEXTS[0]}).json()
    assert [word["text"] for word in explained["words"]] == TEXTS[0].split()
    assert httpx.get(f"{running.url}/card").json()["bundle"]["variant"]["engine"] == "onnxruntime"
    assert len(running.workers()) == 3
    before = running.workers()
    assert running.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def test_a_model_that_is_replaced_is_replaced_for_all(running: Running) -> None:
    assert httpx.post(f"{running.url}/v2/repository/models/model/load").status_code == 200
    assert httpx.post(f"{running.url}/v2/repository/models/other/load").status_code == 404
    assert httpx.post(f"{running.url}/v2/repository/models/model/unload").status_code == 422


def test_models_loaded_over_http_are_there_after_their_process_was_killed(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "store" / "more")
    server = Running(tiny_bundle, "--model-store", str(tmp_path / "store"))
    try:
        assert httpx.post(f"{server.url}/models", json={"model_name": "more", "url": "more"}).status_code == 200
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in server.workers() and len(server.workers()) == 3 and ready(server.url))
        until(lambda: all(httpx.get(f"{server.url}/models/more").status_code == 200 for _ in range(8)))
        answer = httpx.post(f"{server.url}/models/more/invoke", json=TEXTS[0])
        assert (answer.status_code, answer.json()["label"]) == (200, "delivery")
        # Where the process cannot start any more, somebody learns why.
        shutil.move(tiny_bundle, tmp_path / "away")
        try:
            os.kill(server.workers()[-1], signal.SIGKILL)  # the one that was started last
            time.sleep(STARTING / 10)
        finally:
            shutil.move(tmp_path / "away", tiny_bundle)
        until(lambda: ready(server.url))
    finally:
        server.stop()
    assert "the process that holds the models cannot start: there is no model" in server.said
    assert "Traceback" not in server.said


def ask(url: str, answers: Counter[str], over: Callable[[], bool]) -> None:
    while not over():
        try:
            with httpx.Client(base_url=url, timeout=20) as client:
                for _ in range(5):
                    response = client.post("/invocations", json=TEXTS[0])
                    answers[response.json().get("label") or str(response.status_code)] += 1
        except httpx.TransportError:
            answers["cut"] += 1


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_killed_comes_back_and_no_answer_is_wrong(running: Running, place: int) -> None:
    answers: Counter[str] = Counter()
    over = False
    victim = running.workers()[place]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask, running.url, answers, lambda: over) for _ in range(4)]
        until(lambda: answers["delivery"] > 20)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in running.workers() and len(running.workers()) == 3 and ready(running.url))
        before = answers["delivery"]
        until(lambda: answers["delivery"] > before + 20)
        over = True
        for client in clients:
            client.result(timeout=60)
    # What was in the process that died fails, one request of each client at most; who comes then waits for the next.
    failed = "503" if place == 0 else "cut"
    assert set(answers) <= {"delivery", failed}
    assert answers[failed] <= 4
    if failed == "503":
        counted = f'bertie_requests_total{{path="/invocations",status="503"}} {answers[failed]}.0'
        until(lambda: not answers[failed] or counted in httpx.get(f"{running.url}/metrics").text)


def test_who_is_started_again_tells_nobody() -> None:
    child = Child("one", print, ("listener", "told"))
    child.start()
    assert child.process is not None
    child.died()
    assert child.arguments == ("listener", None)


def test_sigterm_finishes_what_was_accepted(running: Running) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            lambda: httpx.post(f"{running.url}/invocations", json=["where is my parcel " * 10] * 3000, timeout=60)
        )
        # Its first batch has run; before any has, the count is there, as 0.
        counted = re.compile(r"^bertie_batch_windows_count\{.*\} [1-9]", re.MULTILINE)
        until(lambda: counted.search(httpx.get(f"{running.url}/metrics").text) is not None)
        assert running.stop() == 0
        assert len(answer.result(timeout=60).json()) == 3000


def test_ctrl_c_ends_them_in_order(running: Running) -> None:
    workers = running.workers()
    running.stop(signal.SIGINT)
    assert "Traceback" not in running.said
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_they_end_with_a_supervisor_that_is_killed(running: Running) -> None:
    workers = running.workers()
    running.process.kill()
    running.process.communicate(timeout=20)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_damaged_bundle_never_becomes_ready(tiny_bundle: Path, tmp_path: Path, bertie: Bertie) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (bundle / "model.onnx").unlink()
    result = bertie("serve", bundle, "--port", "0", "--workers", "2", "--json")
    assert (result.returncode, result.stdout) == (4, "")
    assert "model.onnx" in result.stderr
    assert "Traceback" not in result.stderr
