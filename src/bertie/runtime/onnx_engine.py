"""ONNX Runtime, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bertie import disk
from bertie.bundle.manifest import Device
from bertie.errors import BundleDamaged, BundleUnusable
from bertie.runtime.wake import Workers, threads_now

PROVIDERS: dict[Device, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""What ONNX Runtime calls that which computes."""


class OnnxEngine:
    """A session of ONNX Runtime.

    Weights beside the graph are mapped, and those that are only read, the embeddings, are shared by all processes.
    Those that are multiplied are laid out anew for the processor, so that each process has its own.
    """

    def __init__(self, path: Path, threads: int, *, device: Device = "cpu", digest: str = "") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between two operations halve the time of a short text. After a call they would burn the
        # cores that the rest of the process needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        before = threads_now()
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=_providers(device, digest))
        except Exception as error:  # the library's errors have no common type of their own
            raise BundleDamaged(f"{path} cannot be loaded as an ONNX model: {type(error).__name__}.") from error
        # Where a driver or library is missing, ONNX Runtime goes on with the next provider, and only logs it.
        if self._session.get_providers()[0] != PROVIDERS[device]:
            raise BundleUnusable(
                f"{path.name} is made for {device}, which ONNX Runtime could not start here.",
                expected="an NVIDIA GPU that nvidia-smi lists, and the CUDA and cuDNN that onnxruntime-gpu needs",
                hint="optimize the model again on a machine like this one, with bertie optimize",
            )
        self._workers = Workers(threads_now() - before if device == "cpu" else ())
        self._inputs = [node.name for node in self._session.get_inputs()]

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [windows, labels]; inputs that the graph does not declare are left out."""
        with self._workers.apart():
            logits: NDArray[np.float32] = self._session.run(["logits"], {name: inputs[name] for name in self._inputs})[
                0
            ]
        return logits

    def warm(self) -> None:
        """Run one window."""
        self.run({name: np.ones((1, 8), dtype=np.int64) for name in self._inputs})


def _providers(device: Device, digest: str) -> list[Any]:
    """Return what may compute, the best first."""
    if device == "cpu":
        return [PROVIDERS["cpu"]]
    if device == "cuda":
        return [PROVIDERS["cuda"], PROVIDERS["cpu"]]
    settings: dict[str, Any] = {"trt_fp16_enable": True}
    if digest and (home := disk.cache("tensorrt")) is not None:
        # Building takes minutes; TensorRT itself sees to it that what it kept fits the GPU and its own version.
        settings |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(home / digest)}
    return [(PROVIDERS["tensorrt"], settings), PROVIDERS["cuda"], PROVIDERS["cpu"]]
