from __future__ import annotations

import json

from benchmarks import machine as benchmarks_machine

from bertie.bench.machine import describe, instructions, processor
from bertie.runtime.cpu import cpuinfo

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
    assert processor(cpuinfo(INTEL)) == "Intel(R) Xeon(R) Platinum 8488C"
    assert instructions(cpuinfo(INTEL)) == ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]
    assert instructions(cpuinfo(GRAVITON)) == ["neon", "dotprod", "i8mm", "bf16", "sve"]
    assert "0x41 part 0xd4f" in processor(cpuinfo(GRAVITON))
    assert instructions({}) == []
    assert processor({})


def test_records_keep_the_keys_that_the_tables_read() -> None:
    found = benchmarks_machine.describe()
    assert {"date", "processor", "cores", "python", "versions", "commit"} <= found.keys()
    assert found["processor"].endswith(f"({', '.join(found['instructions'])})")
