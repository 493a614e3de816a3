from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bertie.runtime import cpu


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A made-up machine of eight cores, described by files in a folder."""
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu, "CGROUP", tmp_path)
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
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "250000 100000"}, 3),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "9900000 100000"}, 8),
        ({"cpu.max": ""}, 8),
        ({"cpu.max": "a lot"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "0"}, 8),
    ],
)
def test_a_container_s_limit_counts(machine: Path, files: dict[str, str], cores: int) -> None:
    for name, text in files.items():
        (machine / name).parent.mkdir(exist_ok=True)
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
        (machine / "cpuinfo").write_text(text)
    assert cpu.instruction_sets() == sets


def test_a_container_is_limited_by_the_tightest_group_around_it(tmp_path: Path) -> None:
    own = "0::/pods/mine\n"
    inner = tmp_path / "pods" / "mine"
    inner.mkdir(parents=True)
    assert cpu.container_cpus(tmp_path, own) is None
    assert cpu.container_memory(tmp_path, own) is None
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text("max\n")
    assert cpu.container_cpus(tmp_path, own) is None
    assert cpu.container_memory(tmp_path, own) is None
    (inner / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "pods" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "pods" / "memory.max").write_text("1000000\n")
    assert cpu.container_cpus(tmp_path, own) == 1.5
    assert cpu.container_memory(tmp_path, own) == 1_000_000
    assert cpu.container_cpus(tmp_path, "0::/\n") is None


@pytest.mark.parametrize(("quota", "limit"), [("-1", None), ("50000", 0.5)])
def test_version_1_groups_are_read_too(tmp_path: Path, quota: str, limit: float | None) -> None:
    for name, value in (("cpu/cpu.cfs_quota_us", quota), ("cpu/cpu.cfs_period_us", "100000")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(value)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert cpu.container_cpus(tmp_path, "1:cpu:/x\n") == limit
    assert cpu.container_memory(tmp_path, "1:cpu:/x\n") is None
