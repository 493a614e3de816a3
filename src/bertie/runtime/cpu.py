"""What the processor, and the container around this process, offer it."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path

INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Instruction sets that make a number format fast, of x86 and of ARM, as Linux names them."""

CPUINFO, CGROUP = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many threads compute best: the physical cores this process may use, within its container's limit."""
    return max(1, math.ceil(min(_physical_cores(), container_cpus() or math.inf)))


def _physical_cores() -> int:
    """Return the cores this process may run on, each counted once however many threads it runs."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found = set()
    for cpu in allowed:
        siblings = _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
        found.add(siblings or str(cpu))
    return len(found)


@lru_cache
def instruction_sets() -> frozenset[str]:
    """Return the names of the instruction sets, as Linux gives them; nothing on another system."""
    fields = cpuinfo()
    return frozenset((fields.get("flags") or fields.get("Features") or "").split())  # x86, ARM


def cpuinfo(text: str | None = None) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo, or in the text given."""
    first = (_read(CPUINFO) if text is None else text).partition("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def container_cpus(root: Path | None = None, own: str | None = None) -> float | None:
    """Return how many cores' time the control groups of this process allow, None for no limit.

    `own` is the text of /proc/self/cgroup. Each group within another is limited by both.
    """
    root = root or CGROUP
    limits = [_granted(_read(folder / "cpu.max")) for folder in _groups(root, own)]
    # Version 1, as a container sees its own group.
    period = _read(root / "cpu" / "cpu.cfs_period_us") or "100000"
    limits.append(_granted(f"{_read(root / 'cpu' / 'cpu.cfs_quota_us')} {period}"))
    least = min(limits)
    return None if least == math.inf else round(least, 2)


def _granted(text: str) -> float:
    """Return the cores of a limit such as "150000 100000", quota and period in microseconds; infinity for none."""
    try:
        quota, period = (int(part) for part in text.split())
    except ValueError:  # "max PERIOD", or no such file
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def container_memory(root: Path | None = None, own: str | None = None) -> int | None:
    """Return the bytes of memory that the control groups of this process allow, None for no limit."""
    root = root or CGROUP
    limits = [int(text) for folder in _groups(root, own) if (text := _read(folder / "memory.max")) not in {"", "max"}]
    if text := _read(root / "memory" / "memory.limit_in_bytes"):
        limits.append(int(text))
    # Version 1 says "no limit" with a number near 2^63.
    return min((limit for limit in limits if limit < 1 << 60), default=None)


def _groups(root: Path, own: str | None) -> list[Path]:
    """Return the folders of the groups of version 2 that this process is in, the outermost first."""
    text = _read(Path("/proc/self/cgroup")) if own is None else own
    path = next((line[3:] for line in text.splitlines() if line.startswith("0::")), "/")
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return [root.joinpath(*parts[:count]) for count in range(len(parts) + 1)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
