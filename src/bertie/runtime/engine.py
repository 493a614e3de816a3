"""What computes logits. An engine knows arrays; it knows no text and no label."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bertie.errors import BundleDamaged


class Engine(Protocol):
    """Computes one batch."""

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [windows, labels] of `input_ids`, `attention_mask` and `token_type_ids`."""
        ...


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or physical_cores()
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


def physical_cores() -> int:
    """Return the cores this process may use, each counted once however many threads it runs."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))
