"""gRPC, asked by Triton's own client, which must find the messages that it knows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from bertie import load
from bertie.config import ServeSettings
from bertie.serve.grpc_server import start
from bertie.serve.server import endpoint_for
from bertie.serve.wire.oip_messages import MESSAGES, SERVICE, message
from tests.conftest import Bertie

TEXTS = ["where is my parcel", "i love it", "grüße 👋"]


@pytest.fixture(scope="module")
def address(tiny_bundle: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "bertie", "serve", str(tiny_bundle), "--port", "0", "--grpc-port", "0"]
    process = subprocess.Popen([*command, "--json", "--quiet", "--max-texts", "8"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"127.0.0.1:{json.loads(process.stdout.readline())['grpc_port']}"
    process.terminate()
    process.wait(30)
    process.stdout.close()


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as made:
        yield made


def tensor(texts: list[str], name: str = "text") -> Any:
    made = triton.InferInput(name, [len(texts)], "BYTES")
    made.set_data_from_numpy(np.array(texts, dtype=np.object_))
    return made


def test_our_messages_are_those_that_the_client_knows() -> None:
    from tritonclient.grpc import service_pb2

    # Triton nests some of them in those that hold them.
    places = [service_pb2, *(getattr(service_pb2, name) for name in MESSAGES if hasattr(service_pb2, name))]
    for name in MESSAGES:
        theirs = next(getattr(place, name) for place in places if hasattr(place, name)).DESCRIPTOR
        for ours in message(name).DESCRIPTOR.fields:
            other = theirs.fields_by_name[ours.name]
            assert (ours.number, ours.type, ours.is_repeated) == (other.number, other.type, other.is_repeated), name


def test_state_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("model")
    assert client.get_server_metadata().name == "bertie"
    facts = client.get_model_metadata("model")
    assert [(one.name, one.datatype, list(one.shape)) for one in facts.inputs] == [("text", "BYTES", [-1])]
    assert [one.name for one in facts.outputs] == ["label", "score", "probabilities", "logits"]


def test_answers_are_the_classifiers(client: Any, tiny_bundle: Path) -> None:
    expected = load(tiny_bundle).predict(TEXTS)
    answer = client.infer("model", [tensor(TEXTS)], request_id="7")
    assert answer.get_response().id == "7"
    assert [label.decode() for label in answer.as_numpy("label")] == [one.label for one in expected]
    assert answer.as_numpy("score") == pytest.approx([one.score for one in expected], abs=1e-5)
    assert answer.as_numpy("probabilities").shape == (3, 2)
    assert answer.as_numpy("logits") is None
    logits = client.infer("model", [tensor(TEXTS)], outputs=[triton.InferRequestedOutput("logits")])
    assert logits.as_numpy("logits").shape == (3, 2)


def test_a_large_message_is_read_like_a_small_one(client: Any) -> None:
    long = ["where is my parcel " * 5000, "i love it"]
    answer = client.infer("model", [tensor(long)])
    assert answer.as_numpy("label")[1].decode() == "praise"


def test_contents_that_are_not_raw(address: str, tiny_bundle: Path) -> None:
    request = message("ModelInferRequest")(model_name="model")
    request.inputs.add(name="text", datatype="BYTES", shape=[3]).contents.bytes_contents.extend(
        text.encode() for text in TEXTS
    )
    answer = infer(address, request)
    assert not answer.raw_output_contents
    expected = load(tiny_bundle).predict(TEXTS)
    assert [one.decode() for one in answer.outputs[0].contents.bytes_contents] == [one.label for one in expected]
    assert list(answer.outputs[1].contents.fp32_contents) == pytest.approx([one.score for one in expected], abs=1e-5)


def test_what_is_no_message_is_a_fault_of_the_client(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=None, response_deserializer=None)
        for raw in (b"\xff", b"\x0a\xffprivate words", bytes(range(256))):
            with pytest.raises(grpc.RpcError) as raised:
                call(raw, timeout=20)
            assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "no message of the Open Inference Protocol" in raised.value.details()
            assert "private" not in raised.value.details()


@pytest.mark.anyio
async def test_a_call_that_its_client_ends_is_no_fault_of_the_server(tiny_bundle: Path) -> None:
    endpoint = endpoint_for(load(tiny_bundle), ServeSettings(grpc_port=0))
    began, go = threading.Event(), threading.Event()
    async with endpoint.models.lease() as held:
        classifier = held.scheduler.classifier  # type: ignore[attr-defined]  # models of this process
        run = classifier.run

    def slow(inputs: Any) -> Any:
        began.set()
        go.wait(20)
        return run(inputs)

    classifier.run = slow
    server, port = await start(endpoint, "127.0.0.1", 0)
    request = message("ModelInferRequest")(model_name="model")
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"ok")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=lambda one: one.SerializeToString())
        call = method(request)
        waiting = asyncio.ensure_future(call)
        assert await asyncio.to_thread(began.wait, 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        page, deadline = "", time.monotonic() + 20
        while "ModelInfer" not in page and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            page = (await endpoint.models.page()).decode()
    go.set()
    await server.stop(5)
    assert f'bertie_requests_total{{path="/{SERVICE}/ModelInfer",status="499"}} 1.0' in page
    assert 'status="500"' not in page


def infer(address: str, request: Any, timeout: float = 20) -> Any:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        return call(request, timeout=timeout)


@pytest.mark.parametrize(
    ("model", "version", "inputs", "status"),
    [
        ("other", "", [tensor(["a"])], "NOT_FOUND"),
        ("model", "2", [tensor(["a"])], "NOT_FOUND"),
        ("model", "", [tensor(["a"], "wrong")], "INVALID_ARGUMENT"),
        ("model", "", [tensor(["a"] * 9)], "INVALID_ARGUMENT"),
        ("model", "", [tensor([" "])], "INVALID_ARGUMENT"),
        ("model", "", [tensor(["a"]), tensor(["a"], "text_pair")], "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_answered_is_told_with_a_status(
    client: Any, model: str, version: str, inputs: list[Any], status: str
) -> None:
    with pytest.raises(triton.InferenceServerException) as error:
        client.infer(model, inputs, model_version=version)
    assert error.value.status() == f"StatusCode.{status}"


@pytest.mark.parametrize(
    ("shape", "raw"), [([1], b"\x05\x00\x00\x00a"), ([2], b"\x01\x00\x00\x00a"), ([1], b"\x01\x00\x00\x00\xff")]
)
def test_raw_bytes_that_are_no_strings_are_refused(address: str, shape: list[int], raw: bytes) -> None:
    request = message("ModelInferRequest")(model_name="model", raw_input_contents=[raw])
    request.inputs.add(name="text", datatype="BYTES", shape=shape)
    with pytest.raises(grpc.RpcError) as error:
        infer(address, request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    request.raw_input_contents.append(raw)
    with pytest.raises(grpc.RpcError) as error:
        infer(address, request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_taken_port_is_named(tiny_bundle: Path, address: str, bertie: Bertie) -> None:
    result = bertie("serve", tiny_bundle, "--port", "0", "--grpc-port", address.rpartition(":")[2])
    assert result.returncode == 2
    assert "--grpc-port" in result.stderr
