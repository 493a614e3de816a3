"""A real server, and clients that break HTTP, leave, or come all at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import bertie
from bertie.config import ServeSettings
from bertie.serve.connection import limited
from bertie.serve.memory import Memory
from tests.serve.broken import BINARY, BODIES, GOOD, SECRET
from tests.serve.test_bad_input import judge

pytestmark = pytest.mark.slow

MOST_BODY = 12 * 2**20
GOOD_TEXT = "i love it"


@dataclass(frozen=True)
class Running:
    """A server, and what it writes."""

    port: int
    process: int
    log: Path
    right: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    @property
    def files(self) -> int:
        """Files and connections that it has open."""
        return len(list(Path(f"/proc/{self.process}/fd").iterdir()))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, raw: bytes, *, more: bool = True) -> bytes:
        """Return all that comes back until the server hangs up; without `more`, say that nothing else will be sent."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):  # it may have hung up already
                connection.sendall(raw)
                if not more:
                    connection.shutdown(socket.SHUT_WR)
            return everything(connection)

    def check(self) -> None:
        """Fail unless a good request gets its right answer, and the log is clean."""
        answer = httpx.post(f"{self.url}/invocations", json=GOOD_TEXT, timeout=30).json()
        assert answer["score"] == pytest.approx(self.right, abs=1e-6)
        log = self.log.read_text()
        assert SECRET not in log
        assert "Traceback" not in log


def everything(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while piece := connection.recv(2**16):
            found += piece
    return found


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


@pytest.fixture(scope="module")
def server(
    tiny_bundle: Path, classifier: bertie.Classifier, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "bertie", "serve", str(tiny_bundle), "--port", "0", "--json"]
    command += ["--timeout-seconds", "20", "--max-body-bytes", str(MOST_BODY), "--queue-seconds", "60"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
    assert process.stdout is not None
    port = int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
    (right,) = classifier.predict([GOOD_TEXT])
    yield Running(port, process.pid, log, right.score)
    process.terminate()
    process.wait(30)
    process.stdout.close()


def request(body: bytes = b'"i love it"', *lines: str, target: str = "/invocations", method: str = "POST") -> bytes:
    head = [f"{method} {target} HTTP/1.1", "host: test", *(lines or (f"content-length: {len(body)}",))]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


BROKEN: dict[str, bytes] = {
    "a length that is too small": request(b'"zebrasecret"', "content-length: 5"),
    "a length that is too large": request(b'"zebrasecret"', "content-length: 500"),
    "a negative length": request(b'"zebrasecret"', "content-length: -1"),
    "a length that is no number": request(b'"zebrasecret"', "content-length: ten"),
    "an immense length": request(b'"zebrasecret"', f"content-length: {10**30}"),
    "two lengths": request(b'"zebrasecret"', "content-length: 5", "content-length: 13"),
    "a length and chunks": request(b"0\r\n\r\n", "content-length: 5", "transfer-encoding: chunked"),
    "chunks that are none": request(b"zebrasecret\r\n", "transfer-encoding: chunked"),
    "a chunk that ends early": request(b'20\r\n"zebrasecret"\r\n0\r\n\r\n', "transfer-encoding: chunked"),
    "a chunk of immense size": request(b"f" * 30 + b'\r\n"zebrasecret"', "transfer-encoding: chunked"),
    "an encoding that is none": request(b"0\r\n\r\n", "transfer-encoding: zebrasecret"),
    "a header within a header": request(b'"x"', "content-length: 3", "accept: a\r\n\r\nSet-Cookie: zebrasecret"),
    "a header with NUL": request(b'"x"', "content-length: 3", "accept: a\x00zebrasecret"),
    "a header with no name": request(b'"x"', "content-length: 3", ": zebrasecret"),
    "a folded header": request(b'"x"', "content-length: 3", "accept: a", " zebrasecret"),
    "a long header": request(b'"x"', "content-length: 3", "accept: " + "zebrasecret" * 50_000),
    "many headers": request(b'"x"', "content-length: 3", *(f"x-{number}: zebrasecret" for number in range(20_000))),
    "a long address": request(target="/" + "zebrasecret" * 50_000),
    "a long query": request(target="/invocations?" + "zebrasecret" * 50_000),
    "no HTTP": b"zebrasecret\r\n\r\n",
    "a handshake of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": request().replace(b"HTTP/1.1", b"HTTP/9.9"),
    "an upgrade": request(b"", "connection: upgrade", "upgrade: websocket", "content-length: 0", method="GET"),
    "bytes in the address": b"GET /\xff\xfe HTTP/1.1\r\nhost: test\r\n\r\n",
}


def statuses(raw: bytes) -> list[int]:
    """Return the statuses of answers that came one after the other, each told by its own length."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        found.append(int(lines[0].split()[1]))
        lengths = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
        raw = rest[lengths[0] if lengths else len(rest) :]
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_broken_http_is_refused_or_left_unanswered(server: Running, name: str) -> None:
    raw = server.send(BROKEN[name], more=False)
    found = statuses(raw)
    assert all(status < 500 for status in found)
    assert SECRET.encode() not in raw
    assert b"set-cookie" not in raw.lower()
    server.check()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "GET"])
def test_methods_that_are_not_allowed(server: Running, method: str) -> None:
    (status,) = statuses(server.send(request(b"", "connection: close", method=method)))
    assert status in {400, 405}
    server.check()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/%69nvocations", 200),
        ("/invocations%00", 404),
        ("/invocations/", {307, 404}),
        ("//invocations", 404),
        ("/../invocations", 404),
        ("/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/invoke", 404),
        ("/models/%ff%fe/invoke", 404),
        ("/models/%ed%a0%80/invoke", 404),
        ("/v2/models/zebrasecret%0d%0aset-cookie:%20a/infer", 404),
        ("/v2/models/" + "x" * 20_000 + "/infer", 404),
        ("/%", 404),
        ("*", {400, 404}),
    ],
)
def test_addresses_are_read_or_unknown(server: Running, target: str, status: int | set[int]) -> None:
    raw = server.send(request(b'"i love it"', "content-length: 11", "connection: close", target=target))
    assert set(statuses(raw)) <= ({status} if isinstance(status, int) else status)
    assert statuses(raw)
    assert b"\r\nset-cookie" not in raw.lower()
    assert len(raw) < 2000
    server.check()


def test_broken_bodies_are_refused_over_sockets_too(server: Running) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for route in GOOD:
            for name, body in BODIES.items():
                kind = "text/csv" if "quote" in name or "field" in name else "application/json"
                judge(client.post(route, content=body, headers={"content-type": kind}))
        for body, length in BINARY.values():
            judge(
                client.post("/v2/models/model/infer", content=body, headers={"inference-header-content-length": length})
            )
    server.check()


def test_an_endless_head_takes_no_memory(server: Running) -> None:
    before = server.memory
    with server.connect() as connection:
        connection.settimeout(5)
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.sendall(b"POST /invocations HTTP/1.1\r\nx: ")
            for _ in range(1000):
                connection.sendall(b"zebra" * 20_000)
                sent += 100_000
        raw = everything(connection)
    assert sent < 20 * 2**20
    assert not raw or statuses(raw) == [431]
    assert server.memory - before < 30 * 2**20
    server.check()


def test_a_body_over_the_limit_is_not_kept(server: Running) -> None:
    before = server.memory
    body = b'"' + b"a" * (4 * MOST_BODY) + b'"'
    raw = server.send(request(body, f"content-length: {len(body)}", "connection: close"))
    assert not raw or statuses(raw)[0] == 413
    assert server.memory - before < 3 * MOST_BODY
    server.check()


def test_clients_that_leave_cost_nothing(server: Running) -> None:
    files = server.files
    whole = request(json.dumps(["where is my parcel"] * 500).encode())
    for cut in (1, 20, 60, len(whole) // 2, len(whole) - 1, len(whole)):
        for reset in (False, True):
            with server.connect() as connection:
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.sendall(whole[:cut])
    # One that reads a little of its answer and leaves.
    with server.connect() as connection:
        connection.sendall(whole)
        assert connection.recv(10).startswith(b"HTTP/1.1 ")
    server.check()
    deadline = asyncio.run(settle(server, files))
    assert deadline <= files + 2
    # Nor do they look like faults of the server, which somebody would be woken for.
    counted = httpx.get(f"{server.url}/metrics").text
    assert 'path="/invocations",status="499"' in counted
    assert 'status="5' not in counted
    assert '"level": "error"' not in server.log.read_text().lower()
    assert " ERROR " not in server.log.read_text()


async def settle(server: Running, files: int) -> int:
    for _ in range(100):
        if server.files <= files + 2:
            break
        await asyncio.sleep(0.1)
    return server.files


def test_a_client_that_closes_its_side_has_left(server: Running) -> None:
    # It looks the same as one that has closed the connection, for which nothing should be computed; nginx says so too.
    whole = request(b'"i love it"', "content-length: 11", "connection: close")
    assert set(statuses(server.send(whole, more=False))) <= {200}
    assert statuses(server.send(whole)) == [200]
    server.check()


def test_requests_one_behind_the_other_are_answered_in_order(server: Running, classifier: bertie.Classifier) -> None:
    texts = [f"where is my parcel {'so ' * (number % 7)}{number}" for number in range(40)]
    with server.connect() as connection:
        last = request(b'"i love it"', "content-length: 11", "connection: close")
        connection.sendall(b"".join(request(json.dumps(text).encode()) for text in texts) + last)
        raw = everything(connection)
    assert statuses(raw) == [200] * 41
    scores = [json.loads(part.split(b"\r\n\r\n")[1])["scores"] for part in raw.split(b"HTTP/1.1 200 OK")[1:]]
    for found, wanted in zip(scores, classifier.predict([*texts, GOOD_TEXT]), strict=True):
        assert found == pytest.approx(wanted.scores, abs=1e-5)


def test_two_hundred_at_once_get_one_right_answer_each(server: Running, classifier: bertie.Classifier) -> None:
    sizes = [1, 1, 1, 3, 1, 17, 1, 1, 60, 2]
    asked = [
        [f"i love {'it ' * (size * 5 % 40)}{number} {row}" for row in range(size)]
        for number, size in enumerate(sizes * 20)
    ]

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(client.post("/invocations", json=texts) for texts in asked))

    for texts, answer in zip(asked, asyncio.run(ask_all()), strict=True):
        assert answer.status_code == 200
        for found, wanted in zip(answer.json(), classifier.predict(texts), strict=True):
            assert found["scores"] == pytest.approx(wanted.scores, abs=1e-5)
    server.check()


@pytest.mark.parametrize("unit", ["where is my parcel ", "我的包裹在哪里", "a", "a.", "é"])
def test_an_immense_text_is_refused_at_once_and_others_wait_for_nothing(server: Running, unit: str) -> None:
    text = unit * (10_000_000 // len(unit.encode()))
    before = server.memory
    answer = httpx.post(f"{server.url}/invocations", content=json.dumps(text, ensure_ascii=False), timeout=30)
    assert (answer.status_code, answer.json()["error"]["expected"]) == (413, "at most 1000000")
    assert server.memory - before < 120 * 2**20
    server.check()


def test_large_bodies_do_not_hold_up_others(server: Running) -> None:
    bodies = {"application/jsonlines": b'"a"\n', "text/csv": b"a\n", "text/plain": b"a\n"}
    waits: list[float] = []

    async def main() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            large = [
                client.post("/invocations", content=line * (10**7 // len(line)), headers={"content-type": kind})
                for kind, line in bodies.items()
            ]
            reading = asyncio.gather(*large)
            while not reading.done():
                begun = time.monotonic()
                assert (await client.get("/ping")).status_code == 200
                waits.append(time.monotonic() - begun)
            assert {answer.status_code for answer in await reading} == {413}

    asyncio.run(main())
    assert waits
    assert max(waits) < 2  # which is when SageMaker calls a server ill


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([], None),
        ([b"POST / HTTP/1.1\r\nx: "], None),
        ([b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\na", b"b"], b"413"),
    ],
)
def test_a_client_that_stops_in_the_midst_is_hung_up_on(pieces: list[bytes], status: bytes | None) -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    impatient = limited(ServeSettings(header_seconds=0.2), Memory(2**20), lambda *_: None)

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(refusing, http=impatient, lifespan="off", log_level="critical"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            running = asyncio.create_task(server.serve(sockets=[listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            if status is not None:
                writer.write(pieces[0])
                assert status in await reader.readuntil(b"\r\n\r\n")
            writer.writelines(pieces[status is not None :])
            # Before uvicorn's own five seconds for a connection that rests.
            last = await asyncio.wait_for(reader.read(), 4)
            assert not last or statuses(last) == [408]
            writer.close()
            await writer.wait_closed()
            server.should_exit = True
            await running

    asyncio.run(main())
