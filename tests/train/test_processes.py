"""`bertie train` as torchrun's worker: several processes learn what one learns, and one of them writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import make_rows, write_csv
from tests.hosts import wait_until

FLAGS = ("--max-passes", "8", "--patience", "8", "--precision", "fp32", "--no-freeze-embeddings")


def torchrun(*arguments: object, processes: int = 2, restarts: int = 0) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, "--max-restarts", str(restarts), "-m", "bertie", "train", *map(str, arguments)]


def done(command: list[str]) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode == 0, result.stderr
    return result


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(run / "checkpoint" / "model.safetensors")
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # 161 training rows, batches of 16: the last of a pass has one text, fewer than there are processes below.
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", list(make_rows(201)))


@pytest.mark.slow
def test_three_processes_learn_what_one_learns(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    flags = (data, "--base", tiny_base, *FLAGS, "--dropout", "0")
    done([sys.executable, "-m", "bertie", "train", *map(str, flags), "--out", str(tmp_path / "one")])
    result = done(torchrun(*flags, "--out", tmp_path / "three", "--json", processes=3))
    # One process speaks, and what it says is of all validation and test rows.
    answer = json.loads(result.stdout)
    facts = json.loads((tmp_path / "three" / "data.json").read_text())
    assert facts["rows"]["train"] % 16 == 1
    assert answer["metrics"]["n"] == facts["rows"]["test"]
    one, three = (weights(tmp_path / name) for name in ("one", "three"))
    assert max(float((one[name] - three[name]).abs().max()) for name in one) < 1e-4  # the guide states this tolerance
    logs = []
    for name in ("one", "three"):
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        logs.append([line.get("loss", line.get("log_loss")) for line in lines])
    assert logs[0] == pytest.approx(logs[1], abs=1e-4)
    # The comparison can fail: with dropout each process draws its own.
    done(torchrun(*flags[:-1], "0.1", "--out", tmp_path / "other", processes=3))
    other = weights(tmp_path / "other")
    assert max(float((one[name] - other[name]).abs().max()) for name in one) > 1e-3


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["there", "gone"])
def test_a_killed_process_ends_the_others_and_all_go_on_from_the_checkpoint(
    memory: str, data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    flags = (data, "--base", tiny_base, "--max-passes", 60, "--patience", 60, *FLAGS[4:], "--checkpoint-updates", 20)
    done(torchrun(*flags, "--out", tmp_path / "quiet"))
    run = tmp_path / "run"
    process = subprocess.Popen(torchrun(*flags, "--out", run, restarts=1), stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(run.glob("checkpoints/step-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        victim = children(process.pid)[-1]
        if memory == "gone":  # what the system takes then is the process with most of it, not the one that watches it
            [victim] = children(victim)
        os.kill(victim, signal.SIGKILL)
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, "\n".join(line for line in errors.splitlines() if not line.startswith("pass "))
    assert "going on after update" in errors
    quiet, found = (json.loads((of / "training.json").read_text()) for of in (tmp_path / "quiet", run))
    assert found["updates"] == quiet["updates"]
    if memory == "gone":
        assert found["batch_tokens"] < quiet["batch_tokens"]
        return
    assert found["batch_tokens"] == quiet["batch_tokens"]
    before, after = weights(tmp_path / "quiet"), weights(run)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_asked_to_end_all_write_what_they_have_and_go_on_from_there(
    data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    flags = (data, "--base", tiny_base, "--max-passes", 60, *FLAGS[4:], "--checkpoint-minutes", 0)
    done(torchrun(*flags, "--out", tmp_path / "quiet"))
    run = tmp_path / "run"
    process = subprocess.Popen(torchrun(*flags, "--out", run), stderr=subprocess.PIPE, text=True)
    try:
        wait_until("update", [run / "log.jsonl"], 120)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 1, errors
    assert "asked to end (SIGTERM) after" in errors
    assert len(list((run / "checkpoints").iterdir())) == 1
    again = done(torchrun(*flags, "--out", run))
    assert "going on after update" in again.stderr
    before, after = weights(tmp_path / "quiet"), weights(run)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_processes_that_have_read_other_rows_refuse_to_train_together(
    data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    other = write_csv(tmp_path / "other.csv", list(make_rows(203, seed=1)))
    program = (
        "import os, runpy, sys\n"
        f"if os.environ['RANK'] == '1': sys.argv[2] = {str(other)!r}\n"
        "sys.argv[0] = 'bertie'\n"
        "runpy.run_module('bertie', run_name='__main__', alter_sys=False)\n"
    )
    script = tmp_path / "mixed.py"
    script.write_text(program)
    command = torchrun(data, "--base", tiny_base, *FLAGS, "--out", tmp_path / "run")
    place = command.index("-m", command.index("--max-restarts"))
    command[place : place + 2] = [str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode != 0
    assert "do not have the same data and settings" in result.stderr
    assert not (tmp_path / "run" / "checkpoint").exists()
