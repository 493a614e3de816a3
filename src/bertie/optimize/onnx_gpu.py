"""ONNX Runtime on an NVIDIA GPU: its own kernels in fp16, and TensorRT."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from bertie.bundle.manifest import Variant
from bertie.optimize.candidate import Source, needs_package
from bertie.runtime.engine import no_device


class OnnxCuda:
    """Weights and activations in fp16, inputs and logits as they are; operations fused as for the CPU, and more."""

    name = "onnx-cuda-fp16"
    rescues = ""

    def lacks(self, source: Source) -> str:
        """It needs a GPU, onnxruntime-gpu and onnx."""
        return no_device("cuda") or needs_package("onnx")

    def build(self, source: Source, folder: Path) -> Variant:
        """Write the graph in fp16."""
        from onnxruntime.transformers import optimizer  # noqa: PLC0415 - takes a second

        logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
        fused = optimizer.optimize_model(str(source.model), model_type="bert", opt_level=0, use_gpu=True)
        fused.convert_float_to_float16(keep_io_types=True)
        file = f"{self.name}.onnx"
        fused.save_model_to_file(str(folder / file), use_external_data_format=True)
        return Variant(
            name=self.name, file=file, weights=f"{file}.data", engine="onnxruntime", precision="fp16", device="cuda"
        )


class OnnxTensorRt:
    """TensorRT builds its own program from the portable graph, on the machine that serves, and keeps it."""

    name = "onnx-tensorrt-fp16"
    rescues = ""

    def lacks(self, source: Source) -> str:
        """It needs a GPU, onnxruntime-gpu and TensorRT."""
        return no_device("tensorrt")

    def build(self, source: Source, folder: Path) -> Variant:
        """Write the portable graph again: what TensorRT makes of it belongs to one machine, not into a bundle."""
        file, weights = f"{self.name}.onnx", f"{source.model.name}.data"
        if not (source.model.parent / weights).is_file():
            weights = ""  # they are in the graph
        # The graph names the file of its weights, which the bundle has beside the portable graph already.
        shutil.copyfile(source.model, folder / file)
        return Variant(
            name=self.name, file=file, weights=weights, engine="onnxruntime", precision="fp16", device="tensorrt"
        )
