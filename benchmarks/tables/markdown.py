"""Pieces that the sections of docs/benchmarks.md share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def mean(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(record: dict[str, Any]) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['cores']} cores of {machine['processor']}"
    return f"Measured {machine['date']} at {machine['commit']} on {where}; {versions}."


def limits(name: str) -> str:
    """Return what limits the figures of a record, written by hand: profiles are read by people."""
    path = RESULTS / f"{name}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
