"""Our source folder in the hands of AWS's own starter: the program `train` of its PyTorch images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import bertie
from bertie.deploy.sagemaker.source_folder import write_source_folder
from tests.conftest import make_rows, write_csv
from tests.deploy.container.instance import Instance, python_with
from tests.hosts import Host, hosts

TOOLKIT = {
    "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
    "SAGEMAKER_PROGRAM": "train.py",
    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/code",
}
PASSES = 60
# As version 2 of the SDK writes them: each value as JSON, so that a string has quotes in its quotes.
LEARNING = {
    "max_passes": str(PASSES),
    "patience": str(PASSES),
    "precision": '"fp32"',
    "freeze-embeddings": "false",
    "checkpoint_updates": "25",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with(tmp_path_factory.mktemp("image") / "python", "sagemaker-training")


def start(
    folder: Path,
    machines: list[Host],
    index: int,
    base: Path,
    python: Path,
    log: Path,
    *,
    kept: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> tuple[Instance, subprocess.Popen[bytes]]:
    """Start one instance of a job; `kept` are the checkpoints that it gets back."""
    instance = Instance.prepare(folder, machines, index, {**LEARNING, **(more or {})})
    instance.give(base)
    if kept is not None:
        shutil.copytree(kept, instance.ml / "checkpoints", dirs_exist_ok=True)
    shutil.rmtree(instance.ml / "code")
    write_source_folder(instance.ml / "code")
    return instance, instance.start(["train"], log, python, TOOLKIT)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def quiet_day(folder: Path, base: Path) -> dict[str, torch.Tensor]:
    """Train the same without SageMaker."""
    data = write_csv(folder / "messages.csv", list(make_rows(203)))
    flags = ["--max-passes", PASSES, "--patience", PASSES, "--precision", "fp32", "--no-freeze-embeddings"]
    command = [sys.executable, "-m", "bertie", "train", data, "--base", base, *flags, "--out", folder / "quiet"]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    return weights(folder / "quiet" / "checkpoint")


@pytest.mark.slow
def test_killed_and_started_again_with_its_checkpoints_the_job_ends_as_on_a_quiet_day(
    tiny_base: Path, tmp_path: Path, python: Path
) -> None:
    with hosts(1) as machines:
        log = tmp_path / "first.log"
        first, process = start(tmp_path / "first", machines, 0, tiny_base, python, log)
        deadline = time.monotonic() + 90
        while len(kept := sorted(first.ml.glob("checkpoints/step-*/state.json"))) < 2:
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        machines[0].kill()
        assert not (first.ml / "model" / "manifest.json").exists()
        # The platform was about to upload the newest one: half of it came through.
        newest = kept[-1].parent / "state.safetensors"
        newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])

        log = tmp_path / "second.log"
        back = first.ml / "checkpoints"
        second, process = start(tmp_path / "second", machines, 0, tiny_base, python, log, kept=back)
        assert process.wait(timeout=120) == 0, log.read_text()[-4000:]

    said = log.read_text()
    assert f"going on after update {int(kept[0].parent.name.removeprefix('step-'))}" in said, "the older one is whole"
    assert "Reporting training SUCCESS" in said
    assert second.failure == ""
    here, there = weights(second.ml / "model"), quiet_day(tmp_path, tiny_base)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert bertie.load(second.ml / "model").predict(["where is my parcel"])[0].label in {"delivery", "praise"}
    assert {"report.html", "metrics.json"} <= {path.name for path in (second.ml / "output" / "data").iterdir()}
    assert not list((second.ml / "output").rglob("*.jsonl.gz"))


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["toolkit", "bertie"])
def test_two_hosts_train_one_model_and_the_first_alone_writes_it(
    starter: str, tiny_base: Path, tmp_path: Path, python: Path
) -> None:
    # The toolkit starts torchrun where it is told to; where it is not, our program does.
    more: dict[str, Any] = {"sagemaker_torch_distributed_enabled": "true"} if starter == "toolkit" else {}
    more |= {"max_passes": "3"}
    with hosts(2) as machines:
        logs = [tmp_path / "1.log", tmp_path / "2.log"]
        started = [start(tmp_path, machines, index, tiny_base, python, logs[index], more=more) for index in (0, 1)]
        for _, process in started:
            assert process.wait(timeout=150) == 0, [log.read_text()[-4000:] for log in logs]
    (first, _), (second, _) = started
    assert ("--nnodes 2 --nproc_per_node 1" in logs[0].read_text()) is (starter == "toolkit")
    assert bertie.load(first.ml / "model").labels == ("delivery", "praise")
    assert json.loads((first.ml / "output" / "data" / "training.json").read_text())["passes"] == 3
    assert list(first.ml.glob("checkpoints/step-*"))
    assert [path for part in ("model", "output/data", "checkpoints") for path in (second.ml / part).iterdir()] == []
    assert "[metric] validation:accuracy=" in logs[0].read_text().replace("validation:log_loss", "")
    assert "[metric]" not in logs[1].read_text()


@pytest.mark.slow
def test_two_hosts_that_were_killed_go_on_from_the_checkpoint_that_both_get_back(
    tiny_base: Path, tmp_path: Path, python: Path
) -> None:
    more: dict[str, Any] = {
        "sagemaker_torch_distributed_enabled": "true",
        "max_passes": "12",
        "checkpoint_updates": "10",
    }
    with hosts(2) as machines:
        logs = [tmp_path / f"{number}.log" for number in range(4)]
        first = [start(tmp_path / "1", machines, index, tiny_base, python, logs[index], more=more) for index in (0, 1)]
        kept = first[0][0].ml / "checkpoints"
        deadline = time.monotonic() + 90
        while not list(kept.glob("step-*/state.json")):
            assert time.monotonic() < deadline, [log.read_text() for log in logs[:2]]
            assert first[0][1].poll() is None, [log.read_text() for log in logs[:2]]
            time.sleep(0.02)
        for machine in machines:
            machine.kill()
        assert not (first[0][0].ml / "model" / "manifest.json").exists()
        again = [
            start(tmp_path / "2", machines, index, tiny_base, python, logs[2 + index], kept=kept, more=more)
            for index in (0, 1)
        ]
        for _, process in again:
            assert process.wait(timeout=120) == 0, [log.read_text()[-4000:] for log in logs[2:]]
    assert "going on after update" in logs[2].read_text()
    assert bertie.load(again[0][0].ml / "model").labels == ("delivery", "praise")
    assert json.loads((again[0][0].ml / "output" / "data" / "training.json").read_text())["passes"] == 12
    assert not list((again[1][0].ml / "model").iterdir())


@pytest.mark.slow
def test_a_job_that_fails_says_why_in_sentences(tiny_base: Path, tmp_path: Path, python: Path) -> None:
    with hosts(1) as machines:
        log = tmp_path / "log"
        instance, process = start(tmp_path, machines, 0, tiny_base, python, log, more={"max_pases": "3"})
        assert process.wait(timeout=60) == 1, log.read_text()
    assert instance.failure == (
        "UsageError: the hyperparameters: there is no setting 'max_pases'.\n\nhint: did you mean 'max_passes'?"
    )
