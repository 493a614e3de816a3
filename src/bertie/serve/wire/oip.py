"""The Open Inference Protocol, version 2, over REST: https://github.com/kserve/open-inference-protocol.

Inputs are tensors of strings named `text` and, for models of pairs, `text_pair`. Triton's extension for binary tensors
is read and written, because its client sends strings so, and asks for answers so, unless told otherwise.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from bertie.errors import ModelUnknown, RequestError, RequestInvalid
from bertie.serve.wire.exchange import BINARY, Ask, Found, Limits, Reply, checked, dump, parse, utf8
from bertie.tokens import Text, refuse_broken

SHAPES = '{"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a text", "another"]}]}'
OUTPUTS = ("label", "score", "probabilities", "logits")


def metadata(name: str, labels: tuple[str, ...], *, pairs: bool) -> dict[str, Any]:
    """Return what the protocol calls the model's metadata."""
    inputs = ["text", "text_pair"] if pairs else ["text"]
    per_label = [-1, len(labels)]
    return {
        "name": name,
        "versions": ["1"],
        "platform": "bertie",
        "inputs": [{"name": one, "datatype": "BYTES", "shape": [-1]} for one in inputs],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "score", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": per_label, "parameters": {"labels": list(labels)}},
            {"name": "logits", "datatype": "FP32", "shape": per_label, "parameters": {"labels": list(labels)}},
        ],
    }


def check_version(version: str) -> None:
    """Raise ModelUnknown for another version than the one there is of each model."""
    if version != "1":
        raise ModelUnknown(f"there is no version {version[:100]!r} of the model here.", expected="version 1")


def read(body: bytes, header_length: str, model: str, limits: Limits) -> Ask:
    """Return the texts of an inference request, and how it is answered.

    `header_length` is Triton's Inference-Header-Content-Length: where binary tensors follow the JSON, its bytes. Raises
    RequestError, RequestInvalid or RequestTooLarge.
    """
    # Fewer digits than int() refuses to read.
    if header_length and not (re.fullmatch(r"[0-9]{1,15}", header_length) and int(header_length) <= len(body)):
        raise RequestError(
            "Inference-Header-Content-Length is no length within the body.", expected="the bytes of the JSON"
        )
    end = int(header_length) if header_length else len(body)
    value, rest = parse(body[:end], SHAPES), memoryview(body)[end:]
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        raise RequestInvalid("the body holds no inputs.", expected=SHAPES)
    tensors: dict[Any, list[str]] = {}
    for one in inputs:
        size = _flag(one, "binary_data_size")
        if isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= len(rest):
            data, rest = strings(rest[:size]), rest[size:]
        else:
            data = _flat(one.get("data"))
        if one.get("datatype") != "BYTES" or _count(one.get("shape")) != len(data):
            raise misshapen()
        tensors[str(one.get("name"))] = data
    return Ask(texts_of(tensors, limits), _writer(model, value.get("id"), _outputs(value)))


def texts_of(tensors: dict[str, list[str]], limits: Limits) -> list[Text]:
    """Return the texts of a request's inputs. Raises RequestInvalid or RequestTooLarge."""
    wanted = ["text", "text_pair"] if limits.pairs else ["text"]
    if sorted(tensors) != wanted or len({len(data) for data in tensors.values()}) != 1:
        raise RequestInvalid(f"this model's inputs are {' and '.join(wanted)}, of one length.", expected=SHAPES)
    texts: list[Text] = [*tensors["text"]]
    if limits.pairs:
        texts = list(zip(tensors["text"], tensors["text_pair"], strict=True))
    return checked(texts, limits, SHAPES)


def misshapen() -> RequestInvalid:
    """Return the error of a tensor that is not what it should be."""
    return RequestInvalid("an input is no tensor of strings, or has another shape than its data.", expected=SHAPES)


def _outputs(value: dict[str, Any]) -> dict[str, bool]:
    """Return the outputs that are asked for, and whether each is to be binary."""
    asked = value.get("outputs") or []
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise RequestInvalid("the outputs are no list of objects.", expected='[{"name": "label"}]')
    usual = _flag(value, "binary_data_output") is True
    binary = [usual if (wish := _flag(one, "binary_data")) is None else wish is True for one in asked]
    names = outputs([one.get("name") for one in asked])
    return dict(zip(names, binary or [usual] * len(names), strict=True))


def _flag(value: dict[str, Any], name: str) -> Any:
    parameters = value.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def outputs(names: list[Any]) -> list[str]:
    """Return the names of the outputs that are asked for. Raises RequestInvalid for one that there is not."""
    if any(name not in OUTPUTS for name in names):
        raise RequestInvalid("an output is asked for that this model does not have.", expected=", ".join(OUTPUTS))
    return names or list(OUTPUTS[:3])


def strings(raw: memoryview) -> list[str]:
    """Return the strings of a binary tensor: each after its length in four bytes, the lowest first.

    Raises RequestInvalid.
    """
    found, place = [], 0
    while place < len(raw):
        if place + 4 > len(raw) or place + 4 + (size := struct.unpack_from("<I", raw, place)[0]) > len(raw):
            raise RequestInvalid("a binary tensor ends in the midst of a string.", expected="a length before each")
        found.append(utf8(bytes(raw[place + 4 : place + 4 + size])))
        place += 4 + size
    return found


def _flat(data: Any) -> list[str]:
    """Return the strings of a list, or of lists in it: the protocol allows both."""
    found: list[Any] = []
    for one in data if isinstance(data, list) else [None]:
        found += one if isinstance(one, list) else [one]
    if not all(isinstance(one, str) for one in found):
        raise RequestInvalid("the data of an input are no strings.", expected=SHAPES)
    return found


def _count(shape: Any) -> int:
    sizes = shape if isinstance(shape, list) and 1 <= len(shape) <= 2 else [-1]
    if not all(isinstance(size, int) and not isinstance(size, bool) for size in sizes) or sizes[1:] not in ([], [1]):
        return -1
    return int(sizes[0])


def _writer(model: str, identity: Any, asked: dict[str, bool]) -> Callable[[Found], Reply]:
    if not isinstance(identity, str | None):
        raise RequestInvalid("the id is no string.", expected='"id": "7"')
    refuse_broken(identity or "")

    def write(found: Found) -> Reply:
        outputs, rest = [], b""
        for name, binary in asked.items():
            one = tensor(name, found)
            if binary:
                raw = packed(one.pop("data"))
                one["parameters"], rest = {"binary_data_size": len(raw)}, rest + raw
            outputs.append(one)
        answer = {"model_name": model, "model_version": "1", "outputs": outputs}
        head = dump(answer if identity is None else answer | {"id": identity})
        if not any(asked.values()):
            return Reply(head)
        return Reply(head + rest, BINARY, {"inference-header-content-length": str(len(head))})

    return write


def packed(data: list[str] | list[float]) -> bytes:
    """Return data as a binary tensor: floats of four bytes, or strings each after its length in four."""
    texts = [one.encode() for one in data if isinstance(one, str)]
    if texts:
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack(f"<{len(data)}f", *data)


def tensor(name: str, found: Found) -> dict[str, Any]:
    """Return one output: its name, datatype, shape and data, a flat list."""
    shape = [len(found.predictions)]
    datatype, data = "FP32", list[Any]()
    match name:
        case "label":
            datatype, data = "BYTES", [_label(one.label, one.labels) for one in found.predictions]
        case "score":
            data = [one.score for one in found.predictions]
        case "probabilities":
            data, shape = [p for one in found.predictions for p in one.scores.values()], [*shape, len(found.labels)]
        case "logits":
            data, shape = found.logits.ravel().tolist(), [*shape, len(found.labels)]
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _label(label: str | None, labels: tuple[str, ...] | None) -> str:
    """Return the label as one string; in multi-label tasks all that are chosen, with commas between."""
    return ",".join(labels) if labels is not None else str(label)
