"""What a measurement has to say of the machine it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime", "openvino", "tokenizers", "numpy")

X86 = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
ARM = {"asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve"}
"""The instructions that decide how fast fp32, bf16 and int8 are, by the kernel's names; ARM's with the usual name."""

CPUINFO, CGROUP = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup")


def describe(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return date, processor, its cores and instructions, limits, memory, and versions of what is installed.

    `cores` are those this process may run on; `cpu_limit`, in cores, and `memory_limit_gb` are those of its container,
    None if there are none.
    """
    information = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    memory_limit = container_memory()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(information),
        "instructions": instructions(information),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_limit": container_cpus(),
        "memory_gb": _memory_gb(),
        "memory_limit_gb": memory_limit and round(memory_limit / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def processor(cpuinfo: str) -> str:
    """Return the processor's name out of the text of /proc/cpuinfo; ARM's has codes in the place of a name."""
    fields = _fields(cpuinfo)
    if name := fields.get("model name"):
        return name
    if "CPU implementer" in fields:
        return f"{platform.machine()} implementer {fields['CPU implementer']} part {fields.get('CPU part', '?')}"
    return platform.processor() or platform.machine()


def instructions(cpuinfo: str) -> list[str]:
    """Return the instruction sets that matter here, out of the text of /proc/cpuinfo."""
    fields = _fields(cpuinfo)
    if "Features" in fields:
        features = fields["Features"].split()
        return [usual for name, usual in ARM.items() if name in features]
    flags = fields.get("flags", "").split()
    return [name for name in X86 if name in flags]


def container_cpus(root: Path = CGROUP, own: str | None = None) -> float | None:
    """Return how many cores' time the control groups of this process allow, None for no limit.

    `own` is the text of /proc/self/cgroup. Each group within another is limited by both.
    """
    limits = []
    for folder in _groups(root, own):
        if text := _read(folder / "cpu.max"):  # version 2: "QUOTA PERIOD" in microseconds, or "max PERIOD"
            quota, period = text.split()
            limits.append(float("inf") if quota == "max" else int(quota) / int(period))
    if text := _read(root / "cpu" / "cpu.cfs_quota_us"):  # version 1, as a container sees its own group
        period = _read(root / "cpu" / "cpu.cfs_period_us") or "100000"
        limits.append(int(text) / int(period) if int(text) > 0 else float("inf"))
    least = min(limits, default=float("inf"))
    return None if least == float("inf") else round(least, 2)


def container_memory(root: Path = CGROUP, own: str | None = None) -> int | None:
    """Return the bytes of memory that the control groups of this process allow, None for no limit."""
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


def _fields(cpuinfo: str) -> dict[str, str]:
    """Return the fields of the first processor of the list."""
    first = cpuinfo.partition("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
