"""OpenVINO, int8: weights and activations quantized beforehand by NNCF, with ranges measured on training texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertie.bundle.manifest import Precision, Variant
from bertie.optimize.candidate import Inputs, Source, fast_sets, needs_package
from bertie.optimize.openvino_float import saved
from bertie.runtime.cpu import BF16, INT8

GELU_LEAST = 0.17
"""GELU is never below -0.17. Raised by that much its values have no sign, and int8 has twice as many steps for them."""

SEARCH_BATCHES = 64
"""Batches of calibration texts on which the parts of the model are compared: 1,000 texts, seconds for a part."""


class OpenVinoInt8:
    """Symmetric ranges, which cost no subtraction; SmoothQuant (arXiv 2211.10438); embeddings stay as they are."""

    name = "openvino-int8"
    rescues = ""

    def __init__(self) -> None:
        # What is not quantized, in bf16: one in twenty texts more a second, and the same labels.
        self._precision: Precision = "int8+bf16" if fast_sets(BF16) else "int8"

    def lacks(self, source: Source) -> str:
        """It needs texts, OpenVINO and NNCF."""
        if not source.calibration:
            return "there are no texts to calibrate it with"
        return needs_package("openvino", "nncf")

    def build(self, source: Source, folder: Path) -> Variant:
        """Measure the ranges and write the quantized model."""
        import openvino  # noqa: PLC0415 - an extra

        model = openvino.Core().read_model(source.model)
        found = parts(model)
        unsigned_gelu(model)
        quantized = quantize(model, source.calibration, self._kept(model, found, source))
        return saved(quantized, folder, self.name, self._precision, source, fast_sets(INT8))

    def _kept(self, model: Any, found: dict[str, Part], source: Source) -> list[str]:
        """Return the names of operations that are not quantized."""
        return []


class OpenVinoInt8Mixed(OpenVinoInt8):
    """As above, but the parts of the model that int8 serves worst stay in bf16, or fp32 where the processor lacks it.

    Which they are is measured on calibration texts: how far the logits move when one part alone is quantized. What the
    parts do to the logits is nearly independent, so that squares add up. As many parts stay as it takes to leave no
    more than `shift` of what int8 everywhere shifts the logits by.
    """

    def __init__(self, name: str, rescues: str, shift: float) -> None:
        super().__init__()
        self.name, self.rescues, self.shift = name, rescues, shift

    def _kept(self, model: Any, found: dict[str, Part], source: Source) -> list[str]:
        noise = source.notes.setdefault("squared shift of each part", {})
        if not noise:
            noise |= _squared_shifts(model, found, source.calibration[:SEARCH_BATCHES])
        kept: list[str] = []
        left, allowed = sum(noise.values()), self.shift**2 * sum(noise.values())
        for name in sorted(found, key=lambda name: noise[name] / found[name].weights, reverse=True):
            if left <= allowed:
                break
            kept += found[name].products
            left -= noise[name]
        return kept


@dataclass
class Part:
    """Products that are quantized together, by their names, and how many weights they have."""

    products: list[str]
    weights: int = 1


def parts(model: Any) -> dict[str, Part]:
    """Return the parts of the model: of each layer its attention, and the two products around GELU; and the head."""
    before = {_product_before(gelu) for gelu, _ in after_gelu(model)}
    after = {product.get_friendly_name() for _, product in after_gelu(model)}
    found: dict[str, Part] = {}
    layer = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        name = node.get_friendly_name()
        part = found.setdefault(f"{layer} {'wide' if name in before | after else 'attention'}", Part([]))
        part.products.append(name)
        if _is_constant(node, 1):
            part.weights += node.input_value(1).get_node().data.size
        layer += name in after
    return found


def _squared_shifts(model: Any, found: dict[str, Part], batches: Sequence[Inputs]) -> dict[str, float]:
    """Return, for each part quantized alone, the square of how far the logits move on average."""
    products = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    wanted = _logits(model, batches)
    answer = {}
    for name, part in found.items():
        alone = quantize(model.clone(), batches, [one for one in products if one not in part.products])
        answer[name] = float(np.abs(_logits(alone, batches) - wanted).mean()) ** 2
    return answer


def _product_before(node: Any) -> str:
    """Return the name of the product whose result, with a bias perhaps, an operation reads."""
    while node.get_type_name() != "MatMul" and node.get_input_size():
        inputs = [node.input_value(place).get_node() for place in range(node.get_input_size())]
        node = next((one for one in inputs if one.get_type_name() == "MatMul"), inputs[0])
    name: str = node.get_friendly_name()
    return name


def after_gelu(model: Any) -> list[tuple[Any, Any]]:
    """Return each GELU whose only reader is a product with constant weights, and that product."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Gelu":
            readers = [one.get_node() for one in node.output(0).get_target_inputs()]
            if len(readers) == 1 and readers[0].get_type_name() == "MatMul" and _is_constant(readers[0], 1):
                found.append((node, readers[0]))
    return found


def unsigned_gelu(model: Any) -> int:
    """Raise the output of each GELU so that it has no sign, and lower the next bias by as much; return how many.

    What reads it is a product, which is linear, so that nothing else changes.
    """
    from openvino import opset13  # noqa: PLC0415 - an extra

    raised = 0
    for gelu, product in after_gelu(model):
        sums = [one.get_node() for one in product.output(0).get_target_inputs()]
        if len(sums) != 1 or sums[0].get_type_name() != "Add":
            continue
        side = 1 if sums[0].input_value(0).get_node() == product else 0
        if not _is_constant(sums[0], side):
            continue
        weight, bias = product.input_value(1).get_node().data, sums[0].input_value(side).get_node().data
        lower = bias - GELU_LEAST * weight.sum(axis=1 if product.get_attributes()["transpose_b"] else 0)
        sums[0].input(side).replace_source_output(opset13.constant(lower.astype(np.float32)).output(0))
        higher = opset13.add(gelu, opset13.constant(np.float32(GELU_LEAST)))
        product.input(0).replace_source_output(higher.output(0))
        raised += 1
    return raised


def _is_constant(node: Any, place: int) -> bool:
    """Return whether an input of an operation is a constant."""
    constant: bool = node.input_value(place).get_node().get_type_name() == "Constant"
    return constant


def quantize(model: Any, batches: Sequence[Inputs], kept: list[str]) -> Any:
    """Return the model with its products in int8, but for those named in `kept`; ranges are those in the batches."""
    nncf = _nncf()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters  # noqa: PLC0415

    names = [one.get_any_name() for one in model.inputs]
    return nncf.quantize(
        model,
        nncf.Dataset([{name: batch[name] for name in names} for batch in batches]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(batches),
        # The embeddings are read, not multiplied: int8 would save no time, and cost each process a copy in fp32.
        ignored_scope=nncf.IgnoredScope(names=kept, types=["Gather"], validate=False),
        # Measured: without the correction of biases more texts keep their label, and it takes half the time.
        advanced_parameters=AdvancedQuantizationParameters(disable_bias_correction=True),
    )


def _logits(model: Any, batches: Sequence[Inputs]) -> Any:
    """Return the model's logits for all batches, computed in fp32."""
    import openvino  # noqa: PLC0415 - an extra

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [one.get_any_name() for one in compiled.inputs]
    return np.concatenate([compiled({name: batch[name] for name in names})[0] for batch in batches])


def _nncf() -> Any:
    # NNCF reports its use to Google Analytics without asking. The sign of its own CI stops that; it is read once, when
    # the module is first imported.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf  # noqa: PLC0415 - an extra

    return nncf
