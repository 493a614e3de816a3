"""Which device and number format training uses here: the fastest that this machine really has."""

from __future__ import annotations

import time

import torch

from bertie.config import TrainSettings
from bertie.errors import UsageError
from bertie.train.loop import Machine

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose(settings: TrainSettings) -> Machine:
    """Return the machine to train on. Raises UsageError for a number format that the device lacks."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.precision == "auto":
        return Machine(device, torch.bfloat16 if _bf16_is_faster(device) else torch.float32)
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
