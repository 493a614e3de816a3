"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bertie.errors import BundleDamaged


class OnnxEngine:
    """A session of ONNX Runtime; weights beside the graph are mapped, so that processes share them."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Waiting threads would burn the cores that the server's other work needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors have no common type of their own
            raise BundleDamaged(f"{path} cannot be loaded as an ONNX model: {type(error).__name__}.") from error
        self._inputs = [node.name for node in self._session.get_inputs()]

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [windows, labels]; inputs that the graph does not declare are left out."""
        logits: NDArray[np.float32] = self._session.run(["logits"], {name: inputs[name] for name in self._inputs})[0]
        return logits

    def warm(self) -> None:
        """Run one window."""
        self.run({name: np.ones((1, 8), dtype=np.int64) for name in self._inputs})
