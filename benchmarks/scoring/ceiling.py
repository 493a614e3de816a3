"""What this machine's matrix products allow: `python -m benchmarks.scoring.ceiling` measures the rates, in a process.

A rate is that of a 2048^3 product on all cores, the best of several runs and of all the libraries that are installed:
2 * 2048^3 operations in so many seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 2048
RUNS = 12


def rates() -> dict[str, dict[str, float]]:
    """Return 10^9 operations a second by precision and by the library that computes."""
    answer: dict[str, dict[str, float]] = {}
    for precision, library, prepare in (
        ("fp32", "torch", lambda: _torch("float32")),
        ("fp32", "onnxruntime", _onnx_float),
        ("bf16", "torch", lambda: _torch("bfloat16")),
        ("int8", "torch _int_mm", _torch_int8),
        ("int8", "torch onednn.qlinear", _torch_linear),
        ("int8", "onnxruntime MatMulInteger", _onnx_int8),
        ("int8", "openvino", _openvino_int8),
    ):
        try:
            run = prepare()
        except (ImportError, RuntimeError, AttributeError, NotImplementedError) as error:
            print(f"{precision} {library}: {type(error).__name__}: {error}", flush=True)
            continue
        answer.setdefault(precision, {})[library] = _rate(run)
    return answer


def operations(lengths: list[int], shape: dict[str, Any]) -> float:
    """Return the operations of a text, on average: those of a BERT with the `shape` of its config.json, no padding.

    Two for each weight of the layers and each token, 4 * tokens^2 * width a layer for attention's two products, and for
    the head two for each weight. Embeddings, norms and softmax are not counted.
    """
    width, wide, layers = (shape[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    weights = layers * (4 * width**2 + 2 * width * wide)
    head = 2 * (width**2 + width * len(shape["id2label"]))
    tokens = np.asarray(lengths, dtype=np.float64)
    return float(np.mean(2 * weights * tokens + 4 * layers * width * tokens**2 + head))


def needed(lengths: list[int], shape: dict[str, Any]) -> float:
    """Return the same without what no label depends on: of the last layer's tokens only the first is read.

    Its keys and values are needed of all tokens; its queries, its attention, its output and its wide layers of one.
    """
    width, wide = shape["hidden_size"], shape["intermediate_size"]
    tokens = np.asarray(lengths, dtype=np.float64)
    spared = (tokens - 1) * (2 * (2 * width**2 + 2 * width * wide) + 4 * width * tokens)
    return operations(lengths, shape) - float(np.mean(spared))


def quantized_share(model: Path) -> float:
    """Return the share of the weights of a model of OpenVINO's whose products are in int8."""
    import openvino

    sizes = {True: 0, False: 0}
    for node in openvino.Core().read_model(model).get_ordered_ops():
        if node.get_type_name() == "MatMul" and node.input_value(1).get_partial_shape().is_static:
            rows, columns = node.input_value(1).get_shape()[-2:]
            sizes[node.input_value(0).get_node().get_type_name() == "FakeQuantize"] += rows * columns
    return sizes[True] / sum(sizes.values())


def _rate(run: Callable[[], Any]) -> float:
    for _ in range(3):
        run()
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds) / 1e9


def _torch(dtype: str) -> Callable[[], Any]:
    import torch

    left, right = (torch.randn(SIZE, SIZE).to(getattr(torch, dtype)) for _ in range(2))
    return lambda: torch.mm(left, right)


def _torch_int8() -> Callable[[], Any]:
    import torch

    left, right = (torch.randint(-127, 127, (SIZE, SIZE), dtype=torch.int8) for _ in range(2))
    return lambda: torch._int_mm(left, right)


def _torch_linear() -> Callable[[], Any]:
    """Multiply as a quantized linear layer does: the weights are packed once, the result is int8 again."""
    import torch

    left = torch.randint(0, 255, (SIZE, SIZE), dtype=torch.uint8)
    weight = torch.ops.onednn.qlinear_prepack(torch.randint(-127, 127, (SIZE, SIZE), dtype=torch.int8), [SIZE, SIZE])
    scale, zero = torch.ones(SIZE), torch.zeros(SIZE, dtype=torch.int64)
    tail = (None, 1.0, 0, torch.uint8, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise(left, 1.0, 0, weight, scale, zero, *tail)


def _onnx_float() -> Callable[[], Any]:
    from onnx import TensorProto

    right = np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32)
    return _onnx("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, right, right)


def _onnx_int8() -> Callable[[], Any]:
    from onnx import TensorProto

    random = np.random.default_rng(0)
    left = random.integers(0, 255, (SIZE, SIZE), dtype=np.uint8)
    return _onnx(
        "MatMulInteger", TensorProto.UINT8, TensorProto.INT32, left, random.integers(-127, 127, (SIZE, SIZE), np.int8)
    )


def _onnx(kind: str, takes: int, gives: int, left: Any, right: Any) -> Callable[[], Any]:
    import onnxruntime
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node(kind, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", takes, [SIZE, SIZE])],
        [helper.make_tensor_value_info("product", gives, [SIZE, SIZE])],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": left})


def _openvino_int8() -> Callable[[], Any]:
    """Multiply as a quantized model does: the left side becomes int8 on the way in, the right one is so already."""
    import openvino
    from openvino import opset13 as ops

    low, high = np.float32(-4), np.float32(4)
    left = ops.parameter([SIZE, SIZE], openvino.Type.f32, name="left")
    right = ops.constant(np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32))
    product = ops.matmul(
        ops.fake_quantize(left, low, high, low, high, 256),
        ops.fake_quantize(right, low, high, low, high, 255),  # weights are symmetric: one level less
        False,
        True,
    )
    compiled = openvino.Core().compile_model(
        openvino.Model([product], [left]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    request = compiled.create_infer_request()
    values = np.random.default_rng(1).standard_normal((SIZE, SIZE), dtype=np.float32)
    return lambda: request.infer({0: values}, share_inputs=True)


if __name__ == "__main__":
    print(json.dumps(rates()))
