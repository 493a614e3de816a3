"""Clients that send or read slowly or without end, as raw sockets, against a real server."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve.process import Running, running

pytestmark = pytest.mark.slow

SECONDS = 1.0


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    flags = ("--header-seconds", SECONDS, "--max-connections", 60, "--timeout-seconds", 2, "--drain-seconds", 0)
    with running(tiny_bundle, tmp_path_factory.mktemp("server"), *flags) as made:
        yield made


def dial(server: Running, first: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    made.sendall(first)
    return made


def rest(connection: socket.socket) -> bytes:
    """Return what the server still says before it closes the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            said += part
    return said


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


ANSWERED = b'POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"a"'


def test_half_open_connections_are_cut_and_others_answered_meanwhile(server: Running) -> None:
    begun = time.monotonic()
    slow = [dial(server, b"POST /invocations HTTP/1.1\r\nhost: a\r\n") for _ in range(50)]
    for _ in range(5):
        assert httpx.post(f"{server.url}/invocations", json="i love it").status_code == 200
    for one in slow:
        said = rest(one)
        assert status(said) == 408
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "ClientSlow"
        one.close()
    assert SECONDS * 0.9 < time.monotonic() - begun < SECONDS + 3


def test_one_that_drips_gets_no_more_time(server: Running) -> None:
    begun = time.monotonic()
    with dial(server, b"GET /ping HTTP/1.1\r\n") as slow:
        slow.settimeout(0.05)
        said = b""
        while time.monotonic() - begun < SECONDS + 5:
            try:
                slow.sendall(b"x-a: b\r\n")
                said = slow.recv(4096)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert time.monotonic() - begun < SECONDS + 3
    assert not said or status(said) == 408


@pytest.mark.parametrize("first", [b"", ANSWERED])
@pytest.mark.parametrize("drip", [b"\r\n", b"G"])
def test_silence_and_empty_lines_are_no_request(server: Running, first: bytes, drip: bytes) -> None:
    begun = time.monotonic()
    with dial(server, first) as slow:
        if first:
            assert status(slow.recv(65536)) == 200
        slow.settimeout(0.2)
        while time.monotonic() - begun < SECONDS + 8:
            try:
                slow.sendall(drip)
                if not slow.recv(65536):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert time.monotonic() - begun < SECONDS + 3


def test_silence_is_cut_without_a_word(server: Running) -> None:
    begun = time.monotonic()
    with dial(server) as silent:
        assert rest(silent) == b""
    assert SECONDS * 0.9 < time.monotonic() - begun < SECONDS + 3


def test_bodies_that_wait_for_their_end_take_a_bounded_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    megabytes, piece = 4, b" " * 2**20
    flags = ("--max-bodies-mb", megabytes, "--timeout-seconds", 3, "--drain-seconds", 0)
    with running(tiny_bundle, tmp_path, *flags) as server:
        head = f"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: {2 * len(piece)}\r\n\r\n".encode()
        begun = [dial(server, head + piece) for _ in range(3 * megabytes)]
        time.sleep(0.5)
        for one in begun:
            one.setblocking(False)
        refused = [one for one in begun if _said(one).startswith(b"HTTP/1.1 429")]
        # A megabyte of each is held, a little less while its last piece is under way.
        assert 2 * megabytes - 1 <= len(refused) <= 2 * megabytes
        # What is refused or has run out of its time leaves its room to others.
        for one in begun:
            one.setblocking(True)
            if one not in refused:
                assert status(rest(one)) == 408
            one.close()
        assert httpx.post(f"{server.url}/invocations", content=b'"i love it"' + piece).status_code == 200


def _said(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("path", ["/invocations", "/predict", "/explain", "/models", "/v2/models/model/infer"])
def test_a_body_that_drips_is_cut_too(server: Running, path: str) -> None:
    with dial(server, f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n".encode()) as slow:
        begun = time.monotonic()
        slow.settimeout(0.2)
        said = b""
        while time.monotonic() - begun < 15:
            try:
                slow.sendall(b"a")
                part = slow.recv(65536)
                said += part
                if not part:
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert status(said) == 408
    assert time.monotonic() - begun < 2 + SECONDS + 4


@pytest.mark.parametrize(
    "head",
    [
        b"GET /ping HTTP/1.1\r\n" + b"a: " + b"x" * 40000 + b"\r\n\r\n",
        b"GET /ping HTTP/1.1\r\n" + b"a: " + b"x" * 40000,
        b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    ],
    ids=["long", "endless", "path", "many"],
)
def test_a_head_without_end_is_refused(server: Running, head: bytes) -> None:
    with dial(server) as big:
        with contextlib.suppress(ConnectionError):
            big.sendall(head)
        assert status(rest(big)) == 431


def test_a_head_within_the_limits_is_read(server: Running) -> None:
    for head in (b"a: " + b"x" * 30000 + b"\r\n", b"a: b\r\n" * 99):
        with dial(server, b"GET /ping HTTP/1.1\r\n" + head + b"connection: close\r\n\r\n") as large:
            assert status(rest(large)) == 200


def test_a_long_body_is_not_a_long_head(server: Running) -> None:
    text = "where is my parcel " * 4000
    assert httpx.post(f"{server.url}/invocations", json=text).status_code == 200


def test_what_is_no_http_is_told_so(server: Running) -> None:
    with dial(server, b"\x16\x03\x01 hello\r\n\r\n") as other:
        said = rest(other)
    assert status(said) == 400
    assert b'"code": "RequestError"' in said


def test_requests_that_follow_each_other_at_once_are_answered_in_order(server: Running) -> None:
    with dial(server, ANSWERED * 3 + ANSWERED.replace(b"host: a", b"connection: close")) as quick:
        assert rest(quick).count(b"HTTP/1.1 200 OK") == 4


def test_a_connection_too_many_is_refused_and_room_comes_back(server: Running) -> None:
    held = [dial(server) for _ in range(60)]
    time.sleep(0.2)
    with dial(server) as late:
        said = rest(late)
    assert status(said) == 429
    assert b"retry-after: 1" in said
    for one in held:
        one.close()
    time.sleep(0.2)
    assert httpx.get(f"{server.url}/ping").status_code == 200
    # Whoever runs the server sees it: in the numbers, and in the log under the identifier that the client was told.
    counted = 'bertie_requests_total{path="connection",status="429"} '
    assert counted in httpx.get(f"{server.url}/metrics").text
    [line] = [line for line in server.said().splitlines() if said.split(b"x-request-id: ")[1][:16].decode() in line]
    assert "route=connection status=429 error=Overloaded" in line


def asking_much(*, more: str = "") -> bytes:
    """Return a request whose answer has half a megabyte."""
    texts = json.dumps(["a"] * 4096).encode()
    return f"POST /invocations HTTP/1.1\r\nhost: a\r\n{more}content-length: {len(texts)}\r\n\r\n".encode() + texts


def dial_narrow(server: Running, buffer: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(20)
    made.connect(("127.0.0.1", server.port))
    return made


def test_who_takes_none_of_the_answers_is_cut(server: Running) -> None:
    # More than the system itself keeps for a connection.
    with dial_narrow(server, 4096) as lazy:
        lazy.sendall(asking_much() * 16)
        time.sleep(SECONDS + 5)
        said = rest(lazy)
    assert 0 < said.count(b"200 OK") < 16
    assert httpx.get(f"{server.url}/ping").status_code == 200


def test_who_takes_them_slowly_gets_all(server: Running) -> None:
    begun, received = time.monotonic(), 0
    with dial_narrow(server, 65536) as slow:
        slow.sendall(asking_much() * 15 + asking_much(more="connection: close\r\n"))
        while part := slow.recv(65536):
            received += part.count(b'"label"')
            time.sleep(0.02)
    assert time.monotonic() - begun > SECONDS + 1
    assert received >= 4096 * 16 - 100, "a word may lie across two parts"


def test_answers_that_nobody_reads_take_a_bounded_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    flags = ("--max-bodies-mb", 1, "--queue-seconds", 60, "--header-seconds", 60, "--drain-seconds", 0)
    with running(tiny_bundle, tmp_path, *flags) as server, contextlib.ExitStack() as clients:

        def until(status: int) -> httpx.Response:
            while (answer := httpx.post(f"{server.url}/invocations", json="i love it")).status_code != status:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            return answer

        deadline = time.monotonic() + 90
        until(200)
        # Each asks for more than the system keeps for a connection; what is left over of each fills a megabyte.
        for _ in range(12):
            clients.enter_context(dial_narrow(server, 4096)).sendall(asking_much() * 12)
        assert "answers of others fill the memory" in until(429).text
        assert httpx.get(f"{server.url}/ping").status_code == 200
        clients.close()
        until(200)
        assert "Exception" not in server.said(), "clients that leave are no fault of the server"
