"""What the processor at hand offers this process."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # version 1 of control groups
CPU_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def cores() -> int:
    """Return how many threads compute best: the physical cores this process may use, within its container's limit."""
    return max(1, math.ceil(min(_physical_cores(), _limit())))


def _physical_cores() -> int:
    """Return the cores this process may run on, each counted once however many threads it runs."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found = set()
    for cpu in allowed:
        siblings = _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
        found.add(siblings or str(cpu))
    return len(found)


def _limit() -> float:
    """Return the CPUs that the control group grants, infinity where there is no limit."""
    quota, period = (_read(CPU_MAX) or f"{_read(CPU_QUOTA)} {_read(CPU_PERIOD)}").split()[:2] or ("", "")
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or no control groups at all
        return math.inf
    return granted if granted > 0 else math.inf


@lru_cache
def instruction_sets() -> frozenset[str]:
    """Return the names of the instruction sets, as Linux gives them; nothing on another system."""
    for line in _read(CPUINFO).splitlines():
        name, _, values = line.partition(":")
        if name.strip() in {"flags", "Features"}:  # x86, ARM
            return frozenset(values.split())
    return frozenset()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
