"""OpenVINO, int8: weights and activations quantized beforehand by NNCF, with ranges measured on training texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bertie.bundle.manifest import Precision, Variant
from bertie.optimize.candidate import BF16, INT8, Inputs, Source, fast_sets, needs_package
from bertie.optimize.openvino_float import saved

GELU_LEAST = 0.17
"""GELU is never below -0.17. Raised by that much its values have no sign, and int8 has twice as many steps for them."""

MOST_DISAGREEMENT = 0.003
"""Share of the calibration texts that the guarded variant may label otherwise: well within the default contract."""

GUARDING_BATCHES, RANKING_BATCHES, MOST_RETURNS = 64, 24, 8
"""Batches on which agreement is measured, on which layers are ranked, and how many go back at most: some minutes."""


class OpenVinoInt8:
    """Symmetric ranges, which cost no subtraction; SmoothQuant (arXiv 2211.10438); embeddings stay as they are."""

    name = "openvino-int8"
    rescues = ""
    _precision: Precision = "int8"

    def lacks(self, source: Source) -> str:
        """It needs texts, OpenVINO and NNCF."""
        if not source.calibration:
            return "there are no texts to calibrate it with"
        return needs_package("openvino", "nncf")

    def build(self, source: Source, folder: Path) -> Variant:
        """Measure the ranges and write the quantized model."""
        import openvino  # noqa: PLC0415 - an extra

        model = openvino.Core().read_model(source.model)
        unsigned_gelu(model)
        return saved(self._quantized(model, source), folder, self.name, self._precision, source, fast_sets(INT8))

    def _quantized(self, model: Any, source: Source) -> Any:
        nncf = _nncf()
        names = {one.get_any_name() for one in model.inputs}
        batches = [{name: batch[name] for name in names} for batch in source.calibration]
        how = _how(len(batches), self._kept(model))
        how["advanced_parameters"] = how.pop("advanced_quantization_parameters")  # the other function's name for it
        return nncf.quantize(model, nncf.Dataset(batches), **how)

    def _kept(self, model: Any) -> list[str]:
        """Return the names of operations that are not quantized."""
        return []


class OpenVinoInt8Mixed(OpenVinoInt8):
    """As above, but the product after GELU, whose wide values int8 serves worst, stays in bf16 or fp32."""

    name = "openvino-int8-mixed"

    def __init__(self) -> None:
        self._precision = "int8+bf16" if fast_sets(BF16) else "int8"

    def _kept(self, model: Any) -> list[str]:
        return [product.get_friendly_name() for _, product in after_gelu(model)]


class OpenVinoInt8Guarded(OpenVinoInt8):
    """As above, but the layers that change predictions most go back to fp32 until the model agrees with the original.

    What it agrees on are the texts it was calibrated with, so that held-out texts still judge it.
    """

    name = "openvino-int8-guarded"
    rescues = "openvino-int8-mixed"

    def _quantized(self, model: Any, source: Source) -> Any:
        nncf = _nncf()
        from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters  # noqa: PLC0415

        names = {one.get_any_name() for one in model.inputs}
        logits = _logits(model)
        batches = [
            {name: batch[name] for name in names} | {"labels": logits(batch).argmax(axis=1)}
            for batch in source.calibration
        ]

        def inputs(batch: Inputs) -> Inputs:
            return {name: batch[name] for name in names}

        def agreement(compiled: Any, rows: Iterable[Inputs]) -> float:
            same = [compiled(inputs(batch))[0].argmax(axis=1) == batch["labels"] for batch in rows]
            return float(np.concatenate(same).mean())

        data = nncf.Dataset(batches, inputs)
        return nncf.quantize_with_accuracy_control(
            model,
            data,
            nncf.Dataset(batches[:GUARDING_BATCHES]),
            validation_fn=agreement,
            max_drop=MOST_DISAGREEMENT,
            advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(
                max_num_iterations=MOST_RETURNS, ranking_subset_size=RANKING_BATCHES, num_ranking_workers=1
            ),
            **_how(len(batches), self._kept(model)),
        )


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


def _how(batches: int, kept: list[str]) -> dict[str, Any]:
    nncf = _nncf()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters  # noqa: PLC0415

    return {
        "model_type": nncf.ModelType.TRANSFORMER,
        "preset": nncf.QuantizationPreset.PERFORMANCE,
        "subset_size": batches,
        # The embeddings are read, not multiplied: int8 would save no time, and cost each process a copy in fp32.
        "ignored_scope": nncf.IgnoredScope(names=kept, types=["Gather"], validate=False),
        # Measured: without the correction of biases more texts keep their label, and it takes half the time.
        "advanced_quantization_parameters": AdvancedQuantizationParameters(disable_bias_correction=True),
    }


def _logits(model: Any) -> Callable[[Inputs], Any]:
    import openvino  # noqa: PLC0415 - an extra

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [one.get_any_name() for one in compiled.inputs]
    return lambda batch: compiled({name: batch[name] for name in names})[0]


def _nncf() -> Any:
    # NNCF reports its use to Google Analytics without asking. The sign of its own CI stops that; it is read once, when
    # the module is first imported.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf  # noqa: PLC0415 - an extra

    return nncf
