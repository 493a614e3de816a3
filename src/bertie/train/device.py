"""Which device and number format training uses here: the fastest that this machine really has."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertie.config import TrainSettings
from bertie.errors import UsageError
from bertie.train.cluster import Cluster

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

AUTO = (torch.bfloat16, torch.float16, torch.float32)
"""What `--precision auto` takes, the first of them that a machine is fast in."""

VOLTA, AMPERE = (7, 0), (8, 0)
"""Compute capabilities: the first GPUs with matrix units for fp16, and with those for bf16."""


@dataclass(frozen=True)
class Machine:
    """Where and in which number format the model computes."""

    device: torch.device
    dtype: torch.dtype


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array as a tensor on the device, without making the CPU wait for a GPU."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def name_of(dtype: torch.dtype) -> str:
    """Return how the settings call a number format."""
    return next(name for name, known in DTYPES.items() if known is dtype)


def version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)


def kind() -> str:
    """Return what kind of device training takes here: cuda or cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(settings: TrainSettings, cluster: Cluster) -> Machine:
    """Return the machine to train on. Raises UsageError for a number format that the device lacks."""
    device = torch.device("cuda", cluster.local_rank) if kind() == "cuda" else torch.device("cpu")
    if settings.precision == "auto":
        # The machine that can do least decides for all: the same number format gives the same result.
        _, least = cluster.newest(AUTO.index(_fastest(device)))
        return Machine(device, AUTO[least])
    if settings.precision == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU; there is none here.", hint="use --precision bf16, or leave it out")
    return Machine(device, DTYPES[settings.precision])


def suits(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a training that began in this format, maybe on another machine, should go on in it here.

    A little slower will do: what was begun ends the same.
    """
    if dtype is torch.float32:
        return True
    if device.type == "cuda":
        return AUTO.index(_fastest(device)) <= AUTO.index(dtype)
    return dtype is torch.bfloat16 and _seconds(device, dtype) < 2 * _seconds(device, torch.float32)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed; PyTorch has no error of its own for it on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def has_varlen(device: torch.device) -> bool:
    """Return whether the device runs PyTorch's kernel for texts of any lengths.

    It is FlashAttention 2, which needs Ampere or newer: https://github.com/Dao-AILab/flash-attention, README.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE


def _fastest(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16 if torch.cuda.get_device_capability(device) >= VOLTA else torch.float32
    # Measured: a CPU without bf16 instructions emulates them, many times slower than fp32.
    faster = _seconds(device, torch.bfloat16) < 0.8 * _seconds(device, torch.float32)
    return torch.bfloat16 if faster else torch.float32


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best time of a linear layer of a small encoder over a usual batch."""
    left = torch.randn(352, 384, device=device).to(dtype)
    right = torch.randn(384, 1536, device=device).to(dtype)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - start)
    return min(times)
