"""The servers of `benchmarks/serve.py`: how each is started, asked and read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVERS = Path(__file__).parent / "servers"


@dataclass(frozen=True)
class Contestant:
    """A server of one model."""

    environment: str
    """Of `scoring/environments.py`; nothing for the environment of this program."""
    model: str
    """The folder that it reads: `bundle`, `checkpoint`, or one that `scoring/models.py` makes."""
    command: Callable[[Path, Path, Path, int], list[str]]
    """From Python, model, a folder for files, and port to the command; writes the files that it needs."""
    path: str
    body: Callable[[str], Any]
    """From a text to the JSON of a request."""
    answer: list[Any]
    """Where the label stands in the JSON of an answer."""
    note: str
    """How it is driven, for the page."""
    first_rate: float = 20.0
    """Requests a second where the search begins."""
    environ: dict[str, str] = field(default_factory=dict)


def bertie(python: Path, model: Path, folder: Path, port: int) -> list[str]:
    """Return `bertie serve`."""
    return [str(python), "-m", "bertie", "serve", str(model), "--port", str(port)]


def fastapi(python: Path, model: Path, folder: Path, port: int) -> list[str]:
    """Return the plain FastAPI server."""
    return [str(python), str(SERVERS / "fastapi_server.py"), str(model), str(port)]


def litserve(python: Path, model: Path, folder: Path, port: int) -> list[str]:
    """Return LitServe's."""
    return [str(python), str(SERVERS / "litserve_server.py"), str(model), str(port)]


def mlserver(python: Path, model: Path, folder: Path, port: int) -> list[str]:
    """Return MLServer's, whose settings are files."""
    command = [str(python), str(SERVERS / "mlserver_runtime.py"), str(folder), str(model), str(port)]
    subprocess.run(command, check=True, capture_output=True)
    return [str(python.parent / "mlserver"), "start", str(folder)]


def infinity(engine: str) -> Callable[[Path, Path, Path, int], list[str]]:
    """Return infinity's, with one of its engines."""

    def command(python: Path, model: Path, folder: Path, port: int) -> list[str]:
        options = ["--model-id", str(model), "--served-model-name", "model", "--engine", engine, "--device", "cpu"]
        places = ["--port", str(port), "--host", "127.0.0.1", "--no-model-warmup", "--batch-size", "32"]
        return [str(python.parent / "infinity_emb"), "v2", *options, *places]

    return command


def _tensor(text: str) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}


OURS, LIKE_PEERS = "Bertie", "Bertie, int8 outside the contract"
CONTESTANTS = {
    OURS: Contestant("", "bundle", bertie, "/invocations", lambda text: text, ["label"], "bertie serve", 1000.0),
    LIKE_PEERS: Contestant(
        "",
        "int8",
        bertie,
        "/invocations",
        lambda text: text,
        ["label"],
        "bertie serve, with int8 whatever labels it changes: beside peers that do so unasked",
        1000.0,
    ),
    "FastAPI + transformers": Contestant(
        "fastapi",
        "checkpoint",
        fastapi,
        "/predict",
        lambda text: {"text": text},
        ["label"],
        "a pipeline in an endpoint of FastAPI; bf16 where it is faster, fp32 elsewhere",
    ),
    "LitServe": Contestant(
        "litserve",
        "checkpoint",
        litserve,
        "/predict",
        lambda text: {"text": text},
        ["label"],
        "batches of up to 32 within 2 ms; transformers, bf16 or fp32",
    ),
    "MLServer": Contestant(
        "mlserver",
        "checkpoint",
        mlserver,
        "/v2/models/model/infer",
        _tensor,
        ["outputs", 0, "data", 0],
        "adaptive batching, up to 32 within 2 ms; a runtime with transformers, bf16 or fp32",
        environ={"PYTHONPATH": str(SERVERS)},
    ),
    "infinity, torch": Contestant(
        "infinity-server",
        "infinity",
        infinity("torch"),
        "/classify",
        lambda text: {"model": "model", "input": [text]},
        ["data", 0, 0, "label"],
        "its defaults: fp32, BetterTransformer; batches of up to 32",
    ),
    "infinity, optimum": Contestant(
        "infinity-server",
        "infinity",
        infinity("optimum"),
        "/classify",
        lambda text: {"model": "model", "input": [text]},
        ["data", 0, 0, "label"],
        "its defaults: the quantized ONNX model; batches of up to 32",
    ),
}


def bodies(one: Contestant, texts: list[str]) -> list[str]:
    """Return the bodies of requests for texts."""
    return [json.dumps(one.body(text), ensure_ascii=False) for text in texts]
