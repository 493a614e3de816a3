"""OpenVINO, int8: weights and activations quantized beforehand by NNCF, with ranges measured on training texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bertie.bundle.manifest import Variant
from bertie.optimize.candidate import INT8, Inputs, Source, fast_sets, needs_package
from bertie.optimize.openvino_float import saved

GELU_LEAST = 0.17
"""GELU is never below -0.17. Raised by that much its values have no sign, and int8 has twice as many steps for them."""

MOST_DISAGREEMENT = 0.003
"""Share of the calibration texts that the guarded variant may label otherwise: well within the default contract."""


class OpenVinoInt8:
    """Symmetric ranges, which cost no subtraction; SmoothQuant (arXiv 2211.10438); embeddings stay as they are."""

    name = "openvino-int8"
    rescues = ""

    def lacks(self, source: Source) -> str:
        """It needs texts, OpenVINO and NNCF."""
        if not source.calibration:
            return "there are no texts to calibrate it with"
        return needs_package("openvino", "nncf")

    def build(self, source: Source, folder: Path) -> Variant:
        """Measure the ranges and write the quantized model."""
        import openvino  # noqa: PLC0415 - an extra

        _quiet()
        model = openvino.Core().read_model(source.model)
        unsigned_gelu(model)
        return saved(self._quantized(model, source), folder, self.name, "int8", source, fast_sets(INT8))

    def _quantized(self, model: Any, source: Source) -> Any:
        import nncf  # noqa: PLC0415 - an extra

        names = {one.get_any_name() for one in model.inputs}
        batches = [{name: batch[name] for name in names} for batch in source.calibration]
        return nncf.quantize(model, nncf.Dataset(batches), **_how(len(batches)))


class OpenVinoInt8Guarded(OpenVinoInt8):
    """As above, but the layers that change predictions most go back to fp32 until the model agrees with the original.

    What it agrees on are the texts it was calibrated with, so that held-out texts still judge it.
    """

    name = "openvino-int8-guarded"
    rescues = "openvino-int8"

    def _quantized(self, model: Any, source: Source) -> Any:
        import nncf  # noqa: PLC0415 - an extra

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
            nncf.Dataset(batches),
            validation_fn=agreement,
            max_drop=MOST_DISAGREEMENT,
            **_how(len(batches)),
        )


def unsigned_gelu(model: Any) -> int:
    """Raise the output of each GELU so that it has no sign, and lower the next bias by as much; return how many.

    The next product is linear, so that nothing else changes.
    """
    from openvino import opset13  # noqa: PLC0415 - an extra

    raised = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Gelu":
            continue
        readers = list(node.output(0).get_target_inputs())
        product = readers[0].get_node()
        if len(readers) != 1 or product.get_type_name() != "MatMul":
            continue
        weight = product.input_value(1).get_node()
        after = [reader.get_node() for reader in product.output(0).get_target_inputs()]
        if weight.get_type_name() != "Constant" or [node.get_type_name() for node in after] != ["Add"]:
            continue
        side = 1 if after[0].input_value(0).get_node() == product else 0
        bias = after[0].input_value(side).get_node()
        if bias.get_type_name() != "Constant":
            continue
        sums = weight.data.sum(axis=1 if product.get_attributes()["transpose_b"] else 0)
        lower = opset13.constant((bias.data - GELU_LEAST * sums).astype(np.float32))
        after[0].input(side).replace_source_output(lower.output(0))
        higher = opset13.add(node, opset13.constant(np.float32(GELU_LEAST)))
        readers[0].replace_source_output(higher.output(0))
        raised += 1
    return raised


def _how(batches: int) -> dict[str, Any]:
    import nncf  # noqa: PLC0415 - an extra
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters  # noqa: PLC0415

    return {
        "model_type": nncf.ModelType.TRANSFORMER,
        "preset": nncf.QuantizationPreset.PERFORMANCE,
        "subset_size": batches,
        # The embeddings are read, not multiplied: int8 would save no time, and cost each process a copy in fp32.
        "ignored_scope": nncf.IgnoredScope(types=["Gather"], validate=False),
        # Measured: without the correction of biases more texts keep their label, and it takes half the time.
        "advanced_parameters": AdvancedQuantizationParameters(disable_bias_correction=True),
    }


def _logits(model: Any) -> Callable[[Inputs], Any]:
    import openvino  # noqa: PLC0415 - an extra

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [one.get_any_name() for one in compiled.inputs]
    return lambda batch: compiled({name: batch[name] for name in names})[0]


def _quiet() -> None:
    import nncf  # noqa: PLC0415 - an extra

    nncf.set_log_level(logging.ERROR)
