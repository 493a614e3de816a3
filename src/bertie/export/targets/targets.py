"""The targets by name. A new one is one small file and one line here."""

from __future__ import annotations

from bertie.export.targets.onnx import Onnx
from bertie.export.targets.openvino import OpenVino
from bertie.export.targets.safetensors import Safetensors
from bertie.export.targets.target import Target
from bertie.export.targets.torchscript import TorchScript

TARGETS: dict[str, Target] = {
    "onnx": Onnx(),
    "openvino": OpenVino(),
    "safetensors": Safetensors(),
    "torchscript": TorchScript(),
}
