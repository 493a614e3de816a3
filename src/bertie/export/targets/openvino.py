"""OpenVINO's intermediate representation: the graph in `.xml`, its weights in `.bin`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.errors import need
from bertie.export.onnx import write_onnx
from bertie.export.targets.target import TOKENS, Run, Trained

FILE = "model.xml"


class OpenVino:
    """What OpenVINO makes of the ONNX graph, in fp32."""

    imports = "import openvino\nfrom tokenizers import Tokenizer\n"
    usage = TOKENS + f'model = openvino.Core().compile_model("{FILE}", "CPU")\nlogits = model(inputs)["logits"]\n'

    def write(self, trained: Trained, stage: Path) -> None:
        """See Target."""
        openvino = _openvino()
        with tempfile.TemporaryDirectory(dir=stage) as scratch:
            write_onnx(trained.model, Path(scratch, "model.onnx"))
            model = openvino.convert_model(Path(scratch, "model.onnx"))
            openvino.save_model(model, stage / FILE, compress_to_fp16=False)

    def load(self, trained: Trained, stage: Path) -> Run:
        """See Target."""
        # Left to itself, OpenVINO computes in bf16 where the CPU can, which is not what the file says.
        compiled = _openvino().Core().compile_model(stage / FILE, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = [one.get_any_name() for one in compiled.inputs]

        def run(inputs: dict[str, NDArray[np.int64]]) -> NDArray[Any]:
            logits: NDArray[Any] = compiled({name: inputs[name] for name in names})["logits"]
            return logits

        return run


def _openvino() -> Any:
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("openvino", error) from error
    return openvino
