"""ONNX Runtime, fp32, with operations fused as they occur in transformers."""

from __future__ import annotations

import logging
from pathlib import Path

from bertie.bundle.manifest import Variant
from bertie.optimize.candidate import Source, needs_package


class OnnxFused:
    """ONNX Runtime's own fusions for transformers: sums with their norms, and products with bias and GELU."""

    name = "onnx-fp32-fused"
    rescues = ""

    def lacks(self, source: Source) -> str:
        """It needs the onnx package alone."""
        return needs_package("onnx")

    def build(self, source: Source, folder: Path) -> Variant:
        """Write the fused graph."""
        from onnxruntime.transformers import optimizer  # noqa: PLC0415 - takes a second

        logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
        fused = optimizer.optimize_model(str(source.model), model_type="bert", opt_level=0, use_gpu=False)
        file = f"{self.name}.onnx"
        fused.save_model_to_file(str(folder / file), use_external_data_format=True)
        return Variant(name=self.name, file=file, weights=f"{file}.data", engine="onnxruntime", precision="fp32")
