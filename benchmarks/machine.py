"""What a record says of the machine it was measured on, and the ceiling of that machine."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertie.bench import machine

PACKAGES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "numpy", "scikit-learn")


def describe() -> dict[str, Any]:
    """Return processor, cores, versions, commit and date."""
    root = Path(__file__).parents[1]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "src"], cwd=root, capture_output=True, text=True, check=False
    )
    described = machine.describe(PACKAGES)
    described["processor"] += f" ({', '.join(described['instructions'])})"
    return described | {"commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "")}


LONG_SECONDS = 10.0
"""A number format that takes so long for a product is not measured further."""


def matrix_rates() -> dict[str, float]:
    """Return the measured GFLOP/s of a 2048^3 matrix product, in fp32 and bf16, on all cores: the ceiling."""
    import torch

    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        seconds: list[float] = []
        while len(seconds) < 6 and sum(seconds) < LONG_SECONDS:
            started = time.perf_counter()
            torch.mm(left, right)
            seconds.append(time.perf_counter() - started)
        rates[name] = 2 * 2048**3 / min(seconds) / 1e9
    return rates


@contextlib.contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """Hold a lock file, so that no other measurement runs at the same time."""
    with contextlib.ExitStack() as stack:
        if lock is not None:
            fcntl.flock(stack.enter_context(lock.open("a")), fcntl.LOCK_EX)
        yield
