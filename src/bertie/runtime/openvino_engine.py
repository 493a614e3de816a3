"""OpenVINO on the CPU."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from bertie import disk
from bertie.errors import BundleDamaged
from bertie.runtime import cpu

HOT = 16
"""Single texts of one length after which a program of its own is made for it. It halves their time and takes 0.3 s."""

KEPT = 8
"""Compiled models that the cache keeps, the ones last used."""

TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "int8+bf16": "bf16"}
"""In which type OpenVINO computes what is not quantized."""


def _type(precision: str) -> str:
    """Return the type to compute in; fp32 where a processor that has the instructions for int8 has none for bf16."""
    return TYPES[precision] if cpu.instruction_sets() & {*cpu.BF16} else "f32"


class OpenVinoEngine:
    """A compiled model for any shape, and for single short texts programs that know their shape beforehand.

    OpenVINO prepares each operation anew whenever the shape of its input changes, which costs a short text as much
    time as its computation does. A text is padded to the next of `lengths`, for which there is a program.
    """

    def __init__(
        self, path: Path, threads: int, *, precision: str, lengths: tuple[int, ...] = (), digest: str = ""
    ) -> None:
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": _type(precision),
        }
        self._lengths = sorted(lengths)
        self._core = openvino.Core()
        cache = _cache(digest, self._settings) if digest else None
        try:
            self._model = self._core.read_model(path)
            kept = {} if cache is None else {"CACHE_DIR": str(cache)}
            compiled = self._core.compile_model(self._model, "CPU", self._settings | kept)
        except RuntimeError as error:
            raise BundleDamaged(f"{path} cannot be loaded as an OpenVINO model.") from error
        self._any = _Program(compiled)
        self._of_length: dict[int, _LengthProgram] = {}
        self._asked: Counter[int] = Counter()
        self._lock = Lock()

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [windows, labels]; inputs that the model does not declare are left out."""
        rows, tokens = inputs["input_ids"].shape
        if rows == 1 and self._lengths and tokens <= self._lengths[-1]:
            length = next(length for length in self._lengths if length >= tokens)
            program = self._program(length)
            if program is not None:
                return program.run(inputs)
        return self._any.run(inputs)

    def warm(self) -> None:
        """Make the programs for all lengths, and run one window."""
        for length in self._lengths:
            self._asked[length] = HOT
            self._program(length)
        self.run({name: np.ones((1, 8), dtype=np.int64) for name in self._any.names})

    def _program(self, length: int) -> _LengthProgram | None:
        """Return the program for a length; None as long as the length is too rare to be worth one."""
        with self._lock:
            self._asked[length] += 1
            if length not in self._of_length and self._asked[length] > HOT:
                model = self._model.clone()  # shares the weights
                model.reshape({name: [1, length] for name in self._any.names})
                self._of_length[length] = _LengthProgram(self._core.compile_model(model, "CPU", self._settings))
            return self._of_length.get(length)


class _Program:
    """A compiled model and the memory of its one run at a time; a run uses all cores, so a second could only wait."""

    def __init__(self, compiled: Any) -> None:
        self.names = [one.get_any_name() for one in compiled.inputs]
        self._request = compiled.create_infer_request()
        self._lock = Lock()

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with self._lock:
            logits: NDArray[np.float32] = self._request.infer(
                {name: inputs[name] for name in self.names}, share_inputs=True
            )[0]
        return logits


class _LengthProgram:
    """A program for one text of a known length, at most; what is filled up is masked, so it does not matter with what.

    Its inputs stay where they are from run to run: handing arrays over takes as long as tokenizing a short text does.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._inputs: dict[str, NDArray[np.int64]] = {}
        for one in compiled.inputs:
            name = one.get_any_name()
            self._inputs[name] = np.zeros(tuple(one.shape), dtype=np.int64)
            self._request.set_tensor(name, openvino.Tensor(self._inputs[name], shared_memory=True))
        self._logits = self._request.get_output_tensor(0)
        self._lock = Lock()

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with self._lock:
            for name, kept in self._inputs.items():
                tokens = inputs[name].shape[1]
                kept[:, :tokens] = inputs[name]
                kept[:, tokens:] = 0
            self._request.infer(share_outputs=True)
            logits: NDArray[np.float32] = self._logits.data.copy()
        return logits


def _cache(digest: str, settings: dict[str, Any]) -> Path | None:
    """Return the folder of the compiled form of a model, named after all that it depends on; None if there is none.

    OpenVINO itself goes by the file's name and time, which a replaced bundle may share with the one before.
    """
    home = disk.cache("openvino")
    if home is None:
        return None
    parts = (digest, openvino.get_version(), sorted(settings.items()), sorted(cpu.instruction_sets()))
    folder = home / hashlib.sha256(repr(parts).encode()).hexdigest()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.touch()
        for old in sorted(home.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:  # a read-only file system: compiling takes half a second longer
        return None
    return folder
