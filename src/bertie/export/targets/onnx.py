"""ONNX: one file, with its weights inside."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bertie.export.onnx import write_onnx
from bertie.export.targets.target import TOKENS, Run, Trained
from bertie.runtime import cpu
from bertie.runtime.onnx_engine import OnnxEngine

FILE = "model.onnx"
LARGEST = 2_000_000_000
"""Bytes of weights that fit into the file; Protocol Buffers end at 2 GiB."""


class Onnx:
    """A graph with any number of rows and tokens."""

    imports = "import onnxruntime\nfrom tokenizers import Tokenizer\n"
    usage = TOKENS + f'session = onnxruntime.InferenceSession("{FILE}")\nlogits = session.run(["logits"], inputs)[0]\n'

    def write(self, trained: Trained, stage: Path) -> None:
        """See Target. Weights over 2 GB stay in a second file beside the graph."""
        import onnx  # noqa: PLC0415 - an extra

        weights = sum(tensor.nbytes for tensor in trained.model.state_dict().values())
        if weights > LARGEST:
            write_onnx(trained.model, stage / FILE)
            return
        with tempfile.TemporaryDirectory(dir=stage) as scratch:
            write_onnx(trained.model, Path(scratch, FILE))
            model = onnx.load(Path(scratch, FILE))  # with the weights that lie beside it
        onnx.save(model, stage / FILE)

    def load(self, trained: Trained, stage: Path) -> Run:
        """See Target."""
        return OnnxEngine(stage / FILE, cpu.cores()).run
