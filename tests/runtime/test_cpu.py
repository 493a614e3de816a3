from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bertie.runtime import cpu


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A made-up machine of eight cores, described by files in a folder."""
    for name in ("CPUINFO", "CPU_MAX", "CPU_QUOTA", "CPU_PERIOD"):
        monkeypatch.setattr(cpu, name, tmp_path / name)
    monkeypatch.setattr(cpu, "_physical_cores", lambda: 8)
    cpu.instruction_sets.cache_clear()
    yield tmp_path
    cpu.instruction_sets.cache_clear()


def test_this_machine_has_a_core() -> None:
    assert cpu.cores() >= 1


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"CPU_MAX": "max 100000"}, 8),
        ({"CPU_MAX": "200000 100000"}, 2),
        ({"CPU_MAX": "250000 100000"}, 3),
        ({"CPU_MAX": "10000 100000"}, 1),
        ({"CPU_MAX": "9900000 100000"}, 8),
        ({"CPU_MAX": ""}, 8),
        ({"CPU_MAX": "a lot"}, 8),
        ({"CPU_QUOTA": "300000", "CPU_PERIOD": "100000"}, 3),
        ({"CPU_QUOTA": "-1", "CPU_PERIOD": "100000"}, 8),
        ({"CPU_QUOTA": "300000", "CPU_PERIOD": "0"}, 8),
    ],
)
def test_a_container_s_limit_counts(machine: Path, files: dict[str, str], cores: int) -> None:
    for name, text in files.items():
        (machine / name).write_text(text)
    assert cpu.cores() == cores


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("model name\t: X\nflags\t\t: avx2 avx512_vnni\n\nflags\t\t: other\n", {"avx2", "avx512_vnni"}),
        ("processor\t: 0\nFeatures\t: asimddp bf16\n", {"asimddp", "bf16"}),
        ("nothing of the kind", set()),
        (None, set()),
    ],
)
def test_instruction_sets_are_read(machine: Path, text: str | None, sets: set[str]) -> None:
    if text is not None:
        (machine / "CPUINFO").write_text(text)
    assert cpu.instruction_sets() == sets
