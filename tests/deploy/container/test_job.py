"""A job of ours from end to end: what the client asks for is done as the platform does, and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import bertie
from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.training import Wanted, follow_job, train_on_sagemaker
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings
from bertie.talk import Talk
from tests.deploy.aws.cloud import ROLE, Cloud
from tests.deploy.container.instance import Instance, python_with
from tests.hosts import Host, hosts


def start(cloud: Cloud, data: Path, base: Path, **learning: Any) -> dict[str, Any]:
    settings = TrainSettings(base=str(base), precision="fp32", freeze_embeddings=False, **learning)
    job = TrainingJobSettings(
        instance_type="ml.m5.xlarge", wait=False, environment="BERTIE_TRAIN_CHECKPOINT_MINUTES=0.5"
    )
    wanted = Wanted(str(data), None, None, AwsSettings(role=ROLE), job, DataSettings(), SplitSettings(), settings)
    train_on_sagemaker(wanted, Talk(quiet=True))
    return next(arguments for operation, arguments in cloud.calls() if operation == "CreateTrainingJob")


def instance_of(folder: Path, machines: list[Host], request: dict[str, Any]) -> Instance:
    instance = Instance.prepare(folder, machines, 0, request["HyperParameters"])
    shutil.rmtree(instance.ml / "code")
    return instance


@pytest.mark.slow
def test_what_the_client_asks_for_trains_and_comes_back(
    cloud: Cloud, tiny_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    request = start(cloud, tiny_data, tiny_base, max_passes=3)
    python = python_with(tmp_path / "python")
    with hosts(1) as machines:
        instance, log = instance_of(tmp_path, machines, request), tmp_path / "log"
        command = instance.bring(cloud.client("s3"), request)
        assert instance.start(command, log, python, request["Environment"]).wait(timeout=120) == 0, log.read_text()
    instance.leave(cloud.client("s3"), request)
    facts = follow_job(request["TrainingJobName"], AwsSettings(), tmp_path / "out", Talk(quiet=True))
    assert bertie.load(facts["out"]).labels == ("delivery", "praise")
    kept = (tmp_path / "out" / "config.toml").read_text()
    assert "max_passes = 3" in kept
    assert "checkpoint_minutes = 0.5" in kept
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_the_signal_of_the_platform_reaches_the_program(
    cloud: Cloud, tiny_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    request = start(cloud, tiny_data, tiny_base, max_passes=100000, patience=100000)
    python = python_with(tmp_path / "python")
    with hosts(1) as machines:
        instance, log = instance_of(tmp_path, machines, request), tmp_path / "log"
        process = instance.start(instance.bring(cloud.client("s3"), request), log, python, request["Environment"])
        deadline = time.monotonic() + 60
        while not (instance.ml / "run" / "log.jsonl").is_file():
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        # `unshare` is the process that was started; its child is the container's first.
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first[0]), signal.SIGTERM)
        assert process.wait(timeout=30) == 75, log.read_text()
    assert list(instance.ml.glob("checkpoints/step-*/state.json"))
    assert instance.failure.startswith("Preempted: asked to end (SIGTERM)")


@pytest.mark.slow
def test_an_image_that_cannot_install_bertie_says_so(
    cloud: Cloud, tiny_data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    request = start(cloud, tiny_data, tiny_base)
    python = python_with(tmp_path / "python")
    with hosts(1) as machines:
        instance, log = instance_of(tmp_path, machines, request), tmp_path / "log"
        command = instance.bring(cloud.client("s3"), request)
        (instance.ml / "input" / "data" / "code" / "requirements.txt").write_text("no-such-package-of-ours==1\n")
        assert instance.start(command, log, python).wait(timeout=60) == 1, log.read_text()
    assert instance.failure == "bertie could not be installed; see the log of the job\n"
