"""Our source folder in the hands of SageMaker's SDK 3: its drivers, from a job that its ModelTrainer really made."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import bertie
from bertie.deploy.sagemaker.source_folder import write_source_folder
from tests.conftest import make_rows, write_csv
from tests.deploy.aws.cloud import ACCOUNT, ROLE, Cloud
from tests.deploy.container.instance import Instance, python_with
from tests.environments import python_of
from tests.hosts import hosts

BUCKET = "sdk-bucket"
PROGRAM = Path(__file__).with_name("sdk_program.py")
QUIET = {"SAGEMAKER_VALIDATE_ROLE": "false", "SAGEMAKER_TELEMETRY_OPT_OUT": "true", "PATH": "/usr/bin:/bin"}
LEARNING = {"max_passes": 3, "precision": "fp32", "freeze_embeddings": False, "drop": ["bad-row", "empty-text"]}


def job_of_the_sdk(
    cloud: Cloud, folder: Path, base: Path, learning: dict[str, Any], instances: int = 1, driver: str = "basic"
) -> dict[str, Any]:
    """Let the SDK upload everything and start a job; return what it asked SageMaker for."""
    cloud.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    data = folder / "data"
    data.mkdir()
    write_csv(data / "messages.csv", list(make_rows(203)))
    write_source_folder(folder / "source")
    role = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    words = [BUCKET, role, folder / "source", data, base, json.dumps(learning), instances, driver]
    done = subprocess.run(
        [python_of("sagemaker-sdk"), PROGRAM, *map(str, words)],
        env={**cloud.environment(), **QUIET, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    requests = [arguments for operation, arguments in cloud.calls() if operation == "CreateTrainingJob"]
    assert len(requests) == 1
    return requests[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learning", "code", "failure"),
    [
        (LEARNING, 0, ""),
        (LEARNING | {"metric": "f1"}, 2, "UsageError: the hyperparameters: metric cannot be 'f1'."),
    ],
)
def test_the_drivers_of_version_3_run_our_program(
    learning: dict[str, Any], code: int, failure: str, cloud: Cloud, tiny_base: Path, tmp_path: Path
) -> None:
    request = job_of_the_sdk(cloud, tmp_path, tiny_base, learning)
    python = python_with(tmp_path / "python")
    with hosts(1) as machines:
        instance = Instance.prepare(tmp_path, machines, 0, request["HyperParameters"])
        shutil.rmtree(instance.ml / "code")
        command, log = instance.bring(cloud.client("s3"), request), tmp_path / "log"
        process = instance.start(command, log, python, request.get("Environment"))
        assert process.wait(timeout=120) == code, log.read_text()[-4000:]
    said = log.read_text()
    assert "Running Basic Script driver" in said
    assert "--freeze_embeddings false" in said, "the SDK's own spelling"
    assert instance.failure.startswith(failure)
    if not failure:
        assert instance.failure == ""
        assert bertie.load(instance.ml / "model").labels == ("delivery", "praise")
        assert "[metric] test:accuracy=" in said


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["basic", "torchrun"])
def test_two_hosts_under_the_drivers_of_version_3_train_one_model(
    driver: str, cloud: Cloud, tiny_base: Path, tmp_path: Path
) -> None:
    """The one starts our program on each host, which then becomes torchrun; the other is torchrun already."""
    request = job_of_the_sdk(cloud, tmp_path, tiny_base, LEARNING, 2, driver)
    python = python_with(tmp_path / "python")
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    with hosts(2) as machines:
        instances = [Instance.prepare(tmp_path, machines, index, request["HyperParameters"]) for index in (0, 1)]
        started = []
        for instance, log in zip(instances, logs, strict=True):
            shutil.rmtree(instance.ml / "code")
            command = instance.bring(cloud.client("s3"), request)
            started.append(instance.start(command, log, python, request.get("Environment")))
        for process in started:
            assert process.wait(timeout=150) == 0, [log.read_text()[-4000:] for log in logs]
    said = logs[0].read_text()
    assert ("Executing command: torchrun --nnodes=2" in said) is (driver == "torchrun")
    first, second = instances
    assert bertie.load(first.ml / "model").labels == ("delivery", "praise")
    assert json.loads((first.ml / "output" / "data" / "training.json").read_text())["passes"] == 3
    assert "[metric] test:accuracy=" in said
    assert not list((second.ml / "model").iterdir())
    assert "[metric]" not in logs[1].read_text()
    assert [instance.failure for instance in instances] == ["", ""]
