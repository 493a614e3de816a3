"""`bertie train` on two machines with disks of their own, one of which loses its power and comes back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import make_rows, write_csv
from tests.hosts import ROOT, Host, elastic, hosts
from tests.train.test_processes import done, torchrun, weights

GUIDE = ROOT / "docs" / "guides" / "training.md"
PASSES = 150
FLAGS = ["--max-passes", PASSES, "--patience", PASSES, "--precision", "fp32", "--no-freeze-embeddings"]


def train(folder: Path, machines: list[Host], index: int, base: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start one machine's torchrun: data and run on its own disk, checkpoints where all can read them."""
    disk = folder / f"disk{index}"
    disk.mkdir(exist_ok=True)
    data = write_csv(disk / "data.csv", list(make_rows(203)))
    place = f"file://{folder / 'bucket'}"
    words = ["-m", "bertie", "train", data, "--base", base, *FLAGS, "--out", disk / "run", "--checkpoints", place]
    return elastic(machines, index, [*words, "--checkpoint-updates", 25], log)


@pytest.mark.slow
def test_a_host_loses_its_power_and_the_result_is_that_of_a_quiet_day(tiny_base: Path, tmp_path: Path) -> None:
    with hosts(2) as machines:
        logs = [tmp_path / "1.log", tmp_path / "2.log"]
        agents = [train(tmp_path, machines, index, tiny_base, logs[index]) for index in (0, 1)]
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("bucket/step-*/state.json")):
            assert time.monotonic() < deadline, [log.read_text() for log in logs]
            assert agents[0].poll() is None, logs[0].read_text()
            time.sleep(0.05)
        assert machines[1].lose_power() >= 2
        time.sleep(1)
        assert agents[0].poll() is None, "the other machine waits"
        machines[1].plug()
        logs[1] = tmp_path / "2-again.log"
        agents[1] = train(tmp_path, machines, 1, tiny_base, logs[1])
        for agent in agents:
            assert agent.wait(timeout=180) == 0, [log.read_text()[-4000:] for log in logs]
        assert any("going on after update" in log.read_text() for log in logs)

    runs = [path.parent for path in tmp_path.glob("disk*/run/bundle")]
    assert len(runs) == 1, "the first process alone writes"
    facts = json.loads((runs[0] / "training.json").read_text())
    assert facts["passes"] == PASSES
    assert not list(tmp_path.glob("bucket/step-*"))
    quiet = tmp_path / "quiet"
    done(torchrun(tmp_path / "disk0" / "data.csv", "--base", tiny_base, *FLAGS, "--out", quiet))
    here, there = weights(runs[0]), weights(quiet)
    assert all(torch.equal(here[name], there[name]) for name in here)


def of_the_guide(program: str, folder: Path, index: int) -> tuple[dict[str, str], list[str]]:
    """Return the variables and words that the guide has users of many machines type, with this test's places."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    # Those without a language are not typed by the test of all pages.
    [block] = [block for kind, block in blocks if not kind and re.search(rf"^{program} ", block, re.MULTILINE)]
    data = write_csv(folder / f"train{index}.csv", list(make_rows(203)))
    places = {
        "first-host": "10.77.0.1",
        "train.csv": str(data),
        "runs/hosts": str(folder / f"run{index}"),
        "s3://bucket/folder": f"file://{folder / 'bucket'}",
    }
    for shown, place in places.items():
        assert shown in block or shown == "first-host"
        block = block.replace(shown, place)
    *exports, line = block.replace("\\\n", " ").splitlines()
    variables = dict(export.removeprefix("export ").split("=", 1) for export in exports)
    words = line.split()
    modules = {"torchrun": "torch.distributed.run", "bertie": "bertie"}
    return variables, [sys.executable, "-m", modules[words[0]], *words[1:]]


def type_on_both(
    program: str, folder: Path, base: Path, environment: Callable[[list[Host], int], dict[str, str]]
) -> None:
    """Type the guide's command on two machines, wait for both, and see that the first has written."""
    with hosts(2) as machines:
        logs, started = [], []
        for index, host in enumerate(machines):
            logs.append(folder / f"{index}.log")
            variables, words = of_the_guide(program, folder, index)
            usual = {"BERTIE_TRAIN_BASE": str(base), "BERTIE_TRAIN_MAX_PASSES": "2", "BERTIE_TRAIN_PRECISION": "fp32"}
            started.append(host.start(words, logs[index], {**usual, **variables, **environment(machines, index)}))
        for process in started:
            assert process.wait(timeout=180) == 0, [log.read_text()[-4000:] for log in logs]
    written = [folder / f"run{index}" for index in (0, 1) if (folder / f"run{index}").exists()]
    assert len(written) == 1
    assert (written[0] / "bundle" / "manifest.json").is_file()


@pytest.mark.slow
def test_the_guides_command_for_many_machines(tiny_base: Path, tmp_path: Path) -> None:
    def environment(machines: list[Host], index: int) -> dict[str, str]:
        # torchrun would compare the address with this machine's name, which all namespaces share.
        return {"PET_RDZV_CONF": f"is_host={int(index == 0)}", "PET_LOCAL_ADDR": machines[index].address}

    type_on_both("torchrun", tmp_path, tiny_base, environment)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["sagemaker", "train_job", "pytorch_job"])
def test_a_platform_needs_no_command_but_bertie_train(platform: str, tiny_base: Path, tmp_path: Path) -> None:
    from tests.train import test_hosts

    def environment(machines: list[Host], index: int) -> dict[str, str]:
        found: dict[str, str] = getattr(test_hosts, platform)(tmp_path, machines, index)
        return found

    type_on_both("bertie", tmp_path, tiny_base, environment)
    assert not (tmp_path / "run1").exists()
