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


@dataclass(frozen=True)
class Machine:
    """Where and in which number format the model computes."""

    device: torch.device
    dtype: torch.dtype


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array as a tensor on the device, without making the CPU wait for a GPU."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def kind() -> str:
    """Return what kind of device training takes here: cuda or cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(settings: TrainSettings, cluster: Cluster) -> Machine:
    """Return the machine to train on. Raises UsageError for a number format that the device lacks."""
    device = torch.device("cuda", cluster.local_rank) if kind() == "cuda" else torch.device("cpu")
    if settings.precision == "auto":
        # One process on a slower machine decides for all: the same number format gives the same result.
        slow = cluster.agree(not _bf16_is_faster(device))
        return Machine(device, torch.float32 if slow else torch.bfloat16)
    if settings.precision == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU; there is none here.", hint="use --precision bf16, or leave it out")
    return Machine(device, DTYPES[settings.precision])


def _bf16_is_faster(device: torch.device) -> bool:
    """Measure it: a CPU without bf16 instructions emulates them, many times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _seconds(device, torch.bfloat16) < 0.8 * _seconds(device, torch.float32)


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
