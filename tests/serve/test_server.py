from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bertie.pipeline.demo import ask
from tests.conftest import Bertie


def test_a_real_server_answers_and_stops(served: str) -> None:
    assert httpx.get(f"{served}/ping").status_code == 200
    assert ask(served, "where is my parcel")["label"] in {"delivery", "praise"}


def test_curl_without_a_content_type_is_answered(served: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    command = [curl, "-s", f"{served}/invocations", "-d", '"Somebody just left - guess who."']
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert answer["scores"].keys() == {"delivery", "praise"}


def test_sigterm_finishes_what_was_accepted(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "bertie", "serve", str(tiny_bundle), "--port", "0", "--json", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["url"]
    texts = ["where is my parcel " * 10] * 3000
    asking = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    asking.request("POST", "/invocations", json.dumps(texts), {"content-type": "application/json"})
    # The request was sent whole, and the server reads connections in order: it is under way when this one is answered.
    httpx.get(f"{address}/ping")
    process.send_signal(signal.SIGTERM)
    with contextlib.closing(asking), asking.getresponse() as response:
        answers = json.loads(response.read())
    process.wait(30)
    process.stdout.close()
    assert response.status == 200
    assert len(answers) == 3000


def test_a_taken_port_is_named(tiny_bundle: Path, bertie: Bertie) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = bertie("serve", tiny_bundle, "--port", other.getsockname()[1])
    assert result.returncode == 2
    assert "cannot listen" in result.stderr
    assert "hint: choose another port" in result.stderr


def test_settings_that_cannot_work_are_refused_before_anything_loads(
    tiny_bundle: Path, tmp_path: Path, bertie: Bertie
) -> None:
    for flags, said in (
        (("--port", 8123, "--grpc-port", 8123), "cannot both have port 8123"),
        (("--model-store", tmp_path / "nowhere"), "there is no folder"),
        (("--threads", 99999999), "threads"),
    ):
        result = bertie("serve", tiny_bundle, *flags)
        assert (result.returncode, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_bundle_never_becomes_ready(tiny_bundle: Path, tmp_path: Path, bertie: Bertie, damage: str) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    model = bundle / "model.onnx"
    if damage == "flip":
        raw = bytearray(model.read_bytes())
        raw[len(raw) // 2] ^= 1
        model.write_bytes(raw)
    else:
        model.unlink()
    result = bertie("serve", bundle, "--port", "0", "--json")
    assert result.returncode == 4
    assert result.stdout == ""
    assert "model.onnx" in result.stderr
    assert "Traceback" not in result.stderr


def test_serving_imports_no_pytorch(tiny_bundle: Path) -> None:
    program = f"""
import asyncio, sys, httpx, bertie
from bertie.serve.server import app_for

async def main():
    app = app_for(bertie.load({str(tiny_bundle)!r}))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")
    response = await client.post("/invocations", json="where is my parcel")
    assert response.status_code == 200, response.text

asyncio.run(main())
heavy = {{"torch", "transformers", "sklearn", "scipy", "matplotlib", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
