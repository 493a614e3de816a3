"""What a measurement has to say of the machine it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bertie.runtime import cpu

PACKAGES = ("onnxruntime", "openvino", "tokenizers", "numpy")

X86 = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
ARM = {"asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve"}
"""The instructions that decide how fast fp32, bf16 and int8 are, by the kernel's names; ARM's with the usual name."""


def describe(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return date, processor, its cores and instructions, limits, memory, and versions of what is installed.

    `cores` are those this process may run on; `cpu_limit`, in cores, and `memory_limit_gb` are those of its container,
    None if there are none.
    """
    fields = cpu.cpuinfo()
    memory_limit = cpu.container_memory()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(fields),
        "instructions": instructions(fields),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_limit": cpu.container_cpus(),
        "memory_gb": _memory_gb(),
        "memory_limit_gb": memory_limit and round(memory_limit / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def processor(fields: dict[str, str]) -> str:
    """Return the processor's name out of the fields of /proc/cpuinfo; ARM's has codes in the place of a name."""
    if name := fields.get("model name"):
        return name
    if "CPU implementer" in fields:
        return f"{platform.machine()} implementer {fields['CPU implementer']} part {fields.get('CPU part', '?')}"
    return platform.processor() or platform.machine()


def instructions(fields: dict[str, str]) -> list[str]:
    """Return the instruction sets that matter here, out of the fields of /proc/cpuinfo."""
    if "Features" in fields:
        features = fields["Features"].split()
        return [usual for name, usual in ARM.items() if name in features]
    flags = fields.get("flags", "").split()
    return [name for name in X86 if name in flags]


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
