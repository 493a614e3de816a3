"""The messages of the Open Inference Protocol over gRPC, as its specification numbers their fields:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto

They are built here, into a pool of their own: generated modules register them for the whole process, where those that a
client library brings would be in their way.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_MODEL = {1: "string name", 2: "string version"}
_TENSOR = {1: "string name", 2: "string datatype", 3: "int64* shape"}
_NAMED = {1: "string model_name", 2: "string model_version", 3: "string id", 4: "InferParameter{} parameters"}

MESSAGES: dict[str, dict[int, str]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {1: "bool live"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {1: "bool ready"},
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": {1: "bool ready"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {1: "string name", 2: "string version", 3: "string* extensions"},
    "ModelMetadataRequest": _MODEL,
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": {
        1: "string name",
        2: "string* versions",
        3: "string platform",
        4: "TensorMetadata* inputs",
        5: "TensorMetadata* outputs",
    },
    "InferParameter": {1: "bool bool_param", 2: "int64 int64_param", 3: "string string_param"},
    "InferTensorContents": {
        1: "bool* bool_contents",
        2: "int32* int_contents",
        3: "int64* int64_contents",
        4: "uint32* uint_contents",
        5: "uint64* uint64_contents",
        6: "float* fp32_contents",
        7: "double* fp64_contents",
        8: "bytes* bytes_contents",
    },
    "InferInputTensor": _TENSOR | {4: "InferParameter{} parameters", 5: "InferTensorContents contents"},
    "InferRequestedOutputTensor": {1: "string name", 2: "InferParameter{} parameters"},
    "InferOutputTensor": _TENSOR | {4: "InferParameter{} parameters", 5: "InferTensorContents contents"},
    "ModelInferRequest": _NAMED
    | {5: "InferInputTensor* inputs", 6: "InferRequestedOutputTensor* outputs", 7: "bytes* raw_input_contents"},
    "ModelInferResponse": _NAMED | {5: "InferOutputTensor* outputs", 6: "bytes* raw_output_contents"},
}
"""Type, `*` for a repeated field, `{}` for a map from strings, and name, by number."""

ONE_OF = {"InferParameter": "parameter_choice"}
"""Messages of which one field is set."""


def message(name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        made = file.message_type.add(name=name)
        if name in ONE_OF:
            made.oneof_decl.add(name=ONE_OF[name])
        for number, field in fields.items():
            _add(made, number, *field.split())
            if name in ONE_OF:
                made.field[-1].oneof_index = 0
    return file


def _add(to: DescriptorProto, number: int, kind: str, name: str) -> None:
    field = to.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind.endswith("{}"):
        entry = to.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add(entry, 1, "string", "key")
        _add(entry, 2, kind[:-2], "value")
        kind = f"{to.name}.{entry.name}*"
    if kind.endswith("*"):
        field.label, kind = FieldDescriptorProto.LABEL_REPEATED, kind[:-1]
    if kind[0].isupper():
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


_POOL = DescriptorPool()
_POOL.Add(_file())
