"""`bertie train` on two machines with disks of their own, one of which loses its power and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import make_rows, write_csv
from tests.hosts import Host, elastic, hosts
from tests.train.test_processes import done, torchrun, weights

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


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["sagemaker", "train_job"])
def test_a_platform_needs_no_command_but_bertie_train(platform: str, tiny_base: Path, tmp_path: Path) -> None:
    from tests.train import test_hosts

    data = write_csv(tmp_path / "data.csv", list(make_rows(203)))
    with hosts(2) as machines:
        logs, started = [], []
        for index, host in enumerate(machines):
            logs.append(tmp_path / f"{index}.log")
            words = [data, "--base", tiny_base, "--max-passes", 2, "--precision", "fp32"]
            command = [sys.executable, "-m", "bertie", "train", *words, "--out", tmp_path / f"run{index}"]
            environment = getattr(test_hosts, platform)(tmp_path, machines, index)
            started.append(host.start(command, logs[index], environment))
        for process in started:
            assert process.wait(timeout=120) == 0, [log.read_text()[-4000:] for log in logs]
    assert (tmp_path / "run0" / "bundle" / "manifest.json").is_file()
    assert not (tmp_path / "run1").exists()
