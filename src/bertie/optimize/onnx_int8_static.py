"""ONNX Runtime, int8: weights and activations quantized beforehand, by ranges measured on training texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertie.bundle.manifest import Variant
from bertie.optimize.candidate import Inputs, Source, fast_sets, needs_package
from bertie.runtime.cpu import INT8


class OnnxInt8Static:
    """QDQ form: pairs of quantize and dequantize around each product, which the engine fuses."""

    name = "onnx-int8-static"
    rescues = ""

    def lacks(self, source: Source) -> str:
        """It needs texts, and the onnx package."""
        return needs_package("onnx") or ("" if source.calibration else "there are no texts to calibrate it with")

    def build(self, source: Source, folder: Path) -> Variant:
        """Measure the ranges and write the quantized graph."""
        from onnxruntime.quantization import (  # noqa: PLC0415 - imports onnx
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # an untyped library's class
            def __init__(self, batches: Iterator[Inputs], names: set[str]) -> None:
                self.batches, self.names = batches, names

            def get_next(self) -> dict[str, Any] | None:
                batch = next(self.batches, None)
                return None if batch is None else {name: batch[name] for name in self.names}

        file = f"{self.name}.onnx"
        quantize_static(
            source.model,
            folder / file,
            Reader(iter(source.calibration), _input_names(source.model)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
        return Variant(
            name=self.name,
            file=file,
            weights=f"{file}.data",
            engine="onnxruntime",
            precision="int8",
            needs=fast_sets(INT8),
        )


def _input_names(model: Path) -> set[str]:
    import onnx  # noqa: PLC0415 - not where bundles are served

    return {one.name for one in onnx.load(model, load_external_data=False).graph.input}
