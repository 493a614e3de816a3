"""ONNX Runtime, int8: weights per output channel beforehand, activations by their range in each batch."""

from __future__ import annotations

from pathlib import Path

from bertie.bundle.manifest import Variant
from bertie.optimize.candidate import Source, fast_sets, needs_package
from bertie.runtime.cpu import INT8


class OnnxInt8Dynamic:
    """Needs no texts to calibrate with. `embeddings` says whether the embeddings become int8 too: half the file."""

    rescues = ""

    def __init__(self, *, embeddings: bool) -> None:
        self.name = "onnx-int8-dynamic-small" if embeddings else "onnx-int8-dynamic"
        self._kinds = ["MatMul", "Gemm", *(["Gather"] if embeddings else [])]

    def lacks(self, source: Source) -> str:
        """It needs the onnx package alone."""
        return needs_package("onnx")

    def build(self, source: Source, folder: Path) -> Variant:
        """Write the quantized graph."""
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - imports onnx

        file = f"{self.name}.onnx"
        quantize_dynamic(
            source.model,
            folder / file,
            op_types_to_quantize=self._kinds,
            per_channel=True,
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
