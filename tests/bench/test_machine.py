from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import machine as benchmarks_machine

from bertie.bench.machine import container_cpus, container_memory, describe, instructions, processor

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu sse avx2 avx512f avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: another
flags\t\t: fpu avx2 avx_vnni
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2000.00
Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd4f
"""


def test_this_machine_is_described() -> None:
    found = describe()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] >= 1
    assert found["processor"]
    assert {"onnxruntime", "tokenizers", "numpy"} <= found["versions"].keys()
    assert describe(["no-such-package"])["versions"] == {}


def test_the_instructions_are_those_of_the_first_processor() -> None:
    assert processor(INTEL) == "Intel(R) Xeon(R) Platinum 8488C"
    assert instructions(INTEL) == ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]
    assert instructions(GRAVITON) == ["neon", "dotprod", "i8mm", "bf16", "sve"]
    assert "0x41 part 0xd4f" in processor(GRAVITON)
    assert instructions("") == []
    assert processor("")


def test_a_container_is_limited_by_the_tightest_group_around_it(tmp_path: Path) -> None:
    own = "0::/pods/mine\n"
    inner = tmp_path / "pods" / "mine"
    inner.mkdir(parents=True)
    assert container_cpus(tmp_path, own) is None
    assert container_memory(tmp_path, own) is None
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text("max\n")
    assert container_cpus(tmp_path, own) is None
    assert container_memory(tmp_path, own) is None
    (inner / "cpu.max").write_text("250000 100000\n")
    (tmp_path / "pods" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "pods" / "memory.max").write_text("1000000\n")
    assert container_cpus(tmp_path, own) == 1.5
    assert container_memory(tmp_path, own) == 1_000_000
    assert container_cpus(tmp_path, "0::/\n") is None


@pytest.mark.parametrize(("quota", "limit"), [("-1", None), ("50000", 0.5)])
def test_version_1_groups_are_read_too(tmp_path: Path, quota: str, limit: float | None) -> None:
    for name, value in (("cpu/cpu.cfs_quota_us", quota), ("cpu/cpu.cfs_period_us", "100000")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(value)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert container_cpus(tmp_path, "1:cpu:/x\n") == limit
    assert container_memory(tmp_path, "1:cpu:/x\n") is None


def test_records_keep_the_keys_that_the_tables_read() -> None:
    found = benchmarks_machine.describe()
    assert {"date", "processor", "cores", "python", "versions", "commit"} <= found.keys()
    assert found["processor"].endswith(f"({', '.join(found['instructions'])})")
