from __future__ import annotations

import hmac
import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st

import bertie
from bertie.config import ServeSettings
from bertie.errors import UsageError
from bertie.serve.keys import LOOK_SECONDS, VARIABLE, Keys, presented
from bertie.serve.server import app_for
from tests.conftest import Bertie
from tests.serve.process import running

ONE, TWO, THREE = "first-key-0123456789", "second-key-0123456789", "third-key-0123456789"


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def file_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "keys.txt"
    file.write_text(text)
    return file


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    file = file_of(tmp_path, f"# ours\n\nshop: {ONE}\n{TWO}\n")
    keys = Keys(file, {VARIABLE: f"batch:{THREE}"})
    assert [keys.owner(key.encode()) for key in (ONE, TWO, THREE)] == ["shop", "4", "batch"]
    for wrong in (b"", b"shop", ONE.encode() + b" ", ONE[:-1].encode(), f"shop: {ONE}".encode(), "ä".encode()):
        assert keys.owner(wrong) is None


@given(st.binary(max_size=60))
def test_nothing_else_is_a_key(key: bytes) -> None:
    assert Keys(None, {VARIABLE: f"{ONE},{TWO}"}).owner(key) is (
        None if key not in {ONE.encode(), TWO.encode()} else "1"
    )


def test_all_keys_are_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(None, {VARIABLE: ",".join([ONE, TWO, THREE])})
    compared = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append((len(given), len(known)))
        return given == known

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for key in (ONE, THREE, "wrong"):
        compared.clear()
        keys.owner(key.encode())
        assert compared == [(32, 32)] * 3


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", "two keys 0123456789abcdef\n", f"{ONE}\n{'é' * 20}\n"])
def test_what_holds_no_key_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Keys(file_of(tmp_path, text), {})
    assert "openssl rand" in str(caught.value)
    for word in ("short", "two keys", "é", ONE):
        assert word not in str(caught.value)


def test_an_empty_variable_does_not_open_the_server() -> None:
    with pytest.raises(UsageError, match="there is no key"):
        Keys(None, {VARIABLE: ""})
    assert not Keys(None, {})


def test_a_key_given_as_a_file_name_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Keys(tmp_path / ONE, {})
    assert ONE not in str(caught.value)


def test_keys_are_replaced_without_a_restart(tmp_path: Path) -> None:
    file = file_of(tmp_path, ONE)
    keys = Keys(file, {VARIABLE: THREE}, clock=Clock())
    file.write_text(f"{ONE}\n{TWO}\n")
    assert keys.owner(TWO.encode())
    os.replace(file_of(tmp_path / "..", TWO), file)  # noqa: PTH105 - as one who rotates does
    assert (keys.owner(ONE.encode()), keys.owner(TWO.encode())) == (None, "1")
    assert keys.owner(THREE.encode()) == "1"


@pytest.mark.parametrize("damage", ["empty", "missing", "broken", "bytes", "folder"])
def test_a_file_that_is_broken_later_leaves_the_keys_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    file = file_of(tmp_path, ONE)
    keys = Keys(file, {}, clock=Clock())
    if damage in {"missing", "folder"}:
        file.unlink()
    if damage == "folder":
        file.mkdir()
    if damage in {"empty", "broken", "bytes"}:
        file.write_bytes({"empty": b"", "broken": f"{TWO}\nno\n".encode(), "bytes": b"\xff" * 40}[damage])
    with caplog.at_level(logging.ERROR, "bertie"):
        assert [keys.owner(key.encode()) for key in (ONE, TWO, ONE)] == ["1", None, "1"]
    assert [record.message.startswith("the API keys stay") for record in caplog.records] == [True]
    assert TWO not in caplog.text
    if damage == "folder":
        file.rmdir()
    file.write_text(TWO)
    assert (keys.owner(ONE.encode()), keys.owner(TWO.encode())) == (None, "1")


def test_the_file_is_not_looked_at_for_each_request(tmp_path: Path) -> None:
    file = file_of(tmp_path, ONE)
    keys = Keys(file, {}, clock=lambda: 0.5)
    file.unlink()
    assert keys.owner(ONE.encode())
    assert presented([(b"authorization", b"bearer  k")]) == b"k"
    assert presented([(b"authorization", b"AWS4-HMAC-SHA256 x"), (b"x-api-key", b"k")]) == b"k"
    assert presented([]) == b""


@pytest.mark.anyio
async def test_what_needs_a_key(classifier: bertie.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TWO)
    app = app_for(classifier, ServeSettings(api_keys=file_of(tmp_path, ONE)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        for path in ("/ping", "/v2/health/live", "/v2/health/ready", "/docs", "/static-offline-docs/swagger-ui.css"):
            assert (await client.get(path)).status_code == 200
        for path in (
            "/metrics",
            "/docs/oauth2-redirect",
            "/v2",
            "/v2/models/model",
            "/nowhere",
            "/ping/",
            "/page/../metrics",
        ):
            response = await client.get(path)
            assert response.status_code == 401, path
        assert (await client.get("/openapi.json")).json()["security"] == [{"key": []}]
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "KeyRefused"
        for headers in ({"authorization": f"Bearer {ONE}"}, {"x-api-key": ONE}, {"authorization": f"bearer {TWO}"}):
            assert (await client.post("/invocations", json="a", headers=headers)).status_code == 200
        for headers in ({}, {"authorization": f"Basic {ONE}"}, {"x-api-key": "wrong"}, {"authorization": "Bearer"}):
            response = await client.post("/invocations", json="a", headers=headers)
            assert response.status_code == 401
            assert "wrong" not in response.text
        page = (await client.get("/metrics", headers={"x-api-key": ONE})).text
    assert 'bertie_requests_total{path="other",status="401"} 11.0' in page


@pytest.mark.anyio
async def test_without_keys_nothing_needs_one(classifier: bertie.Classifier) -> None:
    app = app_for(classifier, ServeSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert "security" not in (await client.get("/openapi.json")).json()


@pytest.mark.slow
def test_a_real_server_takes_keys_and_never_shows_them(tiny_bundle: Path, tmp_path: Path) -> None:
    file = file_of(tmp_path, f"shop: {ONE}")
    with running(tiny_bundle, tmp_path, "--api-keys", file, "--grpc-port", "0", environment={VARIABLE: TWO}) as server:
        shown = subprocess.run(
            ["ps", "-o", "args=", "-p", str(server.process.pid)], capture_output=True, text=True, check=True
        )
        assert ONE not in shown.stdout
        assert TWO not in shown.stdout
        for key, status in ((ONE, 200), (TWO, 200), (THREE, 401)):
            response = httpx.post(f"{server.url}/invocations", json="a", headers={"x-api-key": key})
            assert response.status_code == status
        file.write_text(THREE)
        time.sleep(LOOK_SECONDS + 0.2)
        assert httpx.get(f"{server.url}/metrics", headers={"x-api-key": THREE}).status_code == 200
        assert httpx.get(f"{server.url}/metrics", headers={"x-api-key": ONE}).status_code == 401
        over_grpc(f"127.0.0.1:{server.told['grpc_port']}")
    said = server.said()
    assert not [key for key in (ONE, TWO, THREE) if key in said]
    assert "key=shop" in said
    lines = [line for line in said.splitlines() if "method=gRPC" in line]
    assert [("key=1" in line, "error=KeyRefused" in line) for line in lines if "ServerReady" not in line] == [
        (False, True),
        (True, False),
    ]


def over_grpc(address: str) -> None:
    texts: Any = triton.InferInput("text", [1], "BYTES")
    texts.set_data_from_numpy(np.array(["i love it"], dtype=np.object_))
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_ready()
        with pytest.raises(triton.InferenceServerException, match="API key"):
            client.infer("model", [texts])
        answer = client.infer("model", [texts], headers={"authorization": f"Bearer {TWO}"})
        assert answer.as_numpy("label").shape == (1,)


def test_a_file_that_is_not_there_stops_before_anything_loads(tmp_path: Path, bertie: Bertie) -> None:
    done = bertie("serve", tmp_path, "--api-keys", tmp_path / "none", "--port", "0")
    assert done.returncode == 2
    assert "cannot read the file of API keys" in done.stderr
