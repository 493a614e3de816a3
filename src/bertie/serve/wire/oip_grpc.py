"""The Open Inference Protocol's inference request and answer as gRPC messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertie.errors import RequestInvalid
from bertie.serve.wire.exchange import Found, Limits, utf8
from bertie.serve.wire.oip import SHAPES, misshapen, outputs, packed, strings, tensor, texts_of
from bertie.serve.wire.oip_messages import message
from bertie.tokens import Text


def read(request: Any, limits: Limits) -> list[Text]:
    """Return the texts of a ModelInferRequest. Raises RequestInvalid or RequestTooLarge."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestInvalid("there are not as many raw contents as inputs.", expected=SHAPES)
    tensors: dict[str, list[str]] = {}
    for place, one in enumerate(request.inputs):
        data = strings(memoryview(raw[place])) if raw else [utf8(text) for text in one.contents.bytes_contents]
        if one.datatype != "BYTES" or list(one.shape) not in ([len(data)], [len(data), 1]):
            raise misshapen()
        tensors[one.name] = data
    return texts_of(tensors, limits)


def asked(request: Any) -> list[str]:
    """Return the names of the outputs that a ModelInferRequest asks for. Raises RequestInvalid."""
    return outputs([one.name for one in request.outputs])


def write(request: Any, found: Found, names: Sequence[str]) -> Any:
    """Return the ModelInferResponse; raw where the request was."""
    answer = message("ModelInferResponse")(model_name=request.model_name, model_version="1", id=request.id)
    for name in names:
        one = tensor(name, found)
        data, is_text = one.pop("data"), one["datatype"] == "BYTES"
        output = answer.outputs.add(**one)
        if request.raw_input_contents:
            answer.raw_output_contents.append(packed(data))
        elif is_text:
            output.contents.bytes_contents.extend(text.encode() for text in data)
        else:
            output.contents.fp32_contents.extend(data)
    return answer
