"""The clients against real servers: Bertie's, and ones that misbehave on purpose."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import bertie
from bertie.errors import DeadlinePassed, KeyRefused, ModelUnknown, NotReady, RequestInvalid, UsageError
from tests.conftest import Bertie
from tests.serve.process import Running, running

TEXTS = ["where is my parcel", "i love it", "grüße 👋"]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("server"), "--max-texts", 50) as made:
        yield made


def same(found: list[bertie.Prediction], wanted: list[bertie.Prediction]) -> bool:
    return [one.label for one in found] == [one.label for one in wanted] and all(
        one.scores == pytest.approx(other.scores, abs=1e-5) for one, other in zip(found, wanted, strict=True)
    )


@pytest.mark.slow
def test_a_client_predicts_what_the_classifier_does(server: Running, classifier: bertie.Classifier) -> None:
    with bertie.Client(server.url) as client:
        assert client.ready()
        assert same(client.predict(TEXTS), classifier.predict(TEXTS))
        assert client.predict([]) == []
        assert client.predict_proba(TEXTS) == pytest.approx(classifier.predict_proba(TEXTS), abs=1e-5)
        assert client.predict_proba([]).shape == (0, 0)
        many = [f"{text} {number}" for number in range(100) for text in TEXTS]
        assert same(client.predict(many), classifier.predict(many)), "this server takes 50 texts, others thousands"
        with pytest.raises(RequestInvalid, match="text 1 is empty"):
            client.predict(["a", " "])
        with pytest.raises(RequestInvalid):
            client.predict([("a", "b")])
    with bertie.Client(f"{server.url}/", model="model") as named:
        assert same(named.predict(TEXTS), classifier.predict(TEXTS))
    with bertie.Client(server.url, model="other") as unknown, pytest.raises(ModelUnknown):
        unknown.predict(TEXTS)


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_one_for_event_loops_too(server: Running, classifier: bertie.Classifier) -> None:
    async with bertie.AsyncClient(server.url) as client:
        assert await client.ready()
        assert same(await client.predict(TEXTS), classifier.predict(TEXTS))
        assert (await client.predict_proba(TEXTS)).shape == (3, 2)
        with pytest.raises(RequestInvalid):
            await client.predict([""])


@pytest.mark.slow
def test_a_key_and_a_certificate_of_ones_own(
    tiny_bundle: Path, tmp_path: Path, bertie: Bertie, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertie.client.http import Client

    key = "first-key-0123456789"
    with running(tiny_bundle, tmp_path, environment={"BERTIE_API_KEYS": key}) as server:
        with Client(server.url, api_key=f"{key}\n") as client:
            assert len(client.predict(["a"])) == 1
            assert key not in repr(client)
        with Client(server.url) as client, pytest.raises(KeyRefused):
            client.predict(["a"])
        monkeypatch.delenv("BERTIE_API_KEY", raising=False)
        refused = bertie("predict", server.url, "a")
        assert (refused.returncode, "no API key" in refused.stderr) == (2, True)
        monkeypatch.setenv("BERTIE_API_KEY", key)
        assert bertie("predict", server.url, "a").returncode == 0


@pytest.mark.slow
def test_the_command_line_says_the_same_through_a_server(
    server: Running, tiny_bundle: Path, tmp_path: Path, bertie: Bertie
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    for arguments in (TEXTS, ["--input", file]):
        through, here = (bertie("predict", model, *arguments) for model in (server.url, tiny_bundle))
        assert (through.returncode, through.stdout) == (0, here.stdout)
    through, here = (bertie("predict", model, "--json", stdin="i love it\n") for model in (server.url, tiny_bundle))
    ours, theirs = json.loads(through.stdout), json.loads(here.stdout)
    assert ours.keys() == theirs.keys()
    assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)
    wrong = bertie("predict", server.url, "")
    assert (wrong.returncode, "text 0 is empty" in wrong.stderr) == (2, True)
    assert bertie("predict", "http://", "a").returncode == 2


Act = Callable[[BaseHTTPRequestHandler, list[str]], None]


def answers(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def well(handler: BaseHTTPRequestHandler, texts: list[str]) -> None:
    answers(handler, 200, json.dumps([{"label": text, "score": 1.0, "scores": {text: 1.0}} for text in texts]).encode())


def busy(handler: BaseHTTPRequestHandler, _: list[str]) -> None:
    answers(handler, 429, b'{"error": {"code": "Overloaded", "message": "full."}}', retry_after="1")


def cut(handler: BaseHTTPRequestHandler, _: list[str]) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def cut_within(handler: BaseHTTPRequestHandler, _: list[str]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n[")
    cut(handler, [])


def silent(_: BaseHTTPRequestHandler, __: list[str]) -> None:
    time.sleep(2)


@contextmanager
def serving(*acts: Act) -> Iterator[tuple[str, list[int]]]:
    """Run a server that does this with one request after the other, then answers well; give the ports that asked."""
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(self.client_address[1])
            (acts[len(asked) - 1] if len(asked) <= len(acts) else well)(self, texts)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_server_that_is_busy_is_asked_again_when_it_says() -> None:
    begun = time.monotonic()
    with serving(busy) as (url, asked), bertie.Client(url) as client:
        assert client.predict(["a"])[0].label == "a"
    assert len(asked) == 2
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize("act", [cut, cut_within])
def test_a_connection_that_is_cut_is_made_again(act: Act) -> None:
    with serving(act, act) as (url, asked), bertie.Client(url) as client:
        assert client.predict(["a"])[0].label == "a"
        assert len(asked) == 3
    with serving(act, act) as (url, asked), bertie.Client(url, retries=1) as client:
        with pytest.raises(NotReady, match="cannot reach the server"):
            client.predict(["a"])
        assert len(asked) == 2


@pytest.mark.anyio
async def test_in_an_event_loop_too() -> None:
    with serving(cut, busy) as (url, asked):
        async with bertie.AsyncClient(url) as client:
            assert (await client.predict(["a"]))[0].label == "a"
    assert len(asked) == 3


def test_connections_are_used_again_and_order_is_kept() -> None:
    texts = [str(number) for number in range(1000)]
    with serving() as (url, asked), bertie.Client(url) as client:
        assert [one.label for one in client.predict(texts)] == texts
    assert len(asked) == 4
    assert len(set(asked)) == 1


def test_a_server_that_says_nothing_costs_one_timeout() -> None:
    begun = time.monotonic()
    with serving(silent) as (url, asked), bertie.Client(url, timeout=0.3) as client:
        with pytest.raises(DeadlinePassed):
            client.predict(["a"])
        assert len(asked) == 1
    assert time.monotonic() - begun < 4


def test_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with bertie.Client(url, retries=2) as client:
            assert not client.ready()
            with pytest.raises(NotReady, match="cannot reach the server"):
                client.predict(["a"])


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://a", "http://", "http://a:99999", "http://a:b", "", "http://[::1"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        bertie.Client(url)


def test_threads_may_share_a_client() -> None:
    found: dict[int, list[str | None]] = {}
    with serving() as (url, _), bertie.Client(url) as client:

        def ask(number: int) -> None:
            found[number] = [one.label for one in client.predict([f"{number} {count}" for count in range(5)])]

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
    assert found == {number: [f"{number} {count}" for count in range(5)] for number in range(16)}


def test_without_httpx_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["httpx"] = None
import bertie
try:
    bertie.Client
except bertie.BertieError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'bertie[client]'" in done.stdout


def test_a_client_needs_no_model_libraries() -> None:
    program = "import sys, bertie; bertie.Client('http://a'); assert not {'onnxruntime', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_scores_become_a_table() -> None:
    with serving() as (url, _), bertie.Client(url) as client:
        assert np.array_equal(client.predict_proba(["a", "b"]), [[1.0], [1.0]])
