from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.container.hyperparameters import asked
from bertie.deploy.sagemaker.training_request import LONGEST_VALUE, Plan, hyperparameters, job_name
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings
from bertie.errors import UsageError


def plan(aws: AwsSettings, channels: dict[str, str], **settings: Any) -> dict[str, Any]:
    job = TrainingJobSettings(**{"instance_type": "ml.m5.xlarge"} | settings)
    return Plan("n", "n-1", "role", "image", channels, "s3://b/o", "s3://b/c", {}, aws, job).request()


def test_a_disk_of_the_network_is_encrypted_with_the_key() -> None:
    request = plan(AwsSettings(kms_key="alias/k"), {"train": "s3://b/t"})
    assert request["ResourceConfig"]["VolumeKmsKeyId"] == request["OutputDataConfig"]["KmsKeyId"] == "alias/k"
    assert "VolumeKmsKeyId" not in plan(AwsSettings(), {"train": "s3://b/t"})["ResourceConfig"]


def test_spare_machines_may_wait_as_long_as_they_train_or_as_long_as_is_asked() -> None:
    usual = plan(AwsSettings(), {}, spot=True, max_hours=1.5)["StoppingCondition"]
    assert usual == {"MaxRuntimeInSeconds": 5400, "MaxWaitTimeInSeconds": 10800}
    asked_for = plan(AwsSettings(), {}, spot=True, max_hours=1, max_wait_hours=1)["StoppingCondition"]
    assert asked_for == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600}


def test_what_the_client_writes_the_container_reads(tmp_path: Path) -> None:
    data = DataSettings(text_column="3", label_column="1", header=False, delimiter="\t", quoting="none")
    split, train = SplitSettings(valid_share=0.2), TrainSettings(base="distilbert", learning_rate=3e-5, dropout=0.0)
    values = hyperparameters(data, split, train)
    assert set(values) == {
        *("text_column", "label_column", "header", "delimiter", "quoting", "valid_share"),
        *("base", "learning_rate", "dropout"),
    }
    again = asked(values, {})
    assert (again.data, again.split, again.train) == (data, split, train)
    local = hyperparameters(data, split, TrainSettings(base=str(tmp_path), checkpoints="s3://b/c", keep_at_end=True))
    assert local.keys() & {"base", "checkpoints", "keep_at_end"} == set(), "they travel otherwise"


def test_a_value_that_sagemaker_would_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match=f"base has {LONGEST_VALUE + 1} characters"):
        hyperparameters(DataSettings(), SplitSettings(), TrainSettings(base="x" * (LONGEST_VALUE + 1)))


def test_each_job_has_a_name_of_its_own_that_is_not_too_long() -> None:
    assert job_name("intents", datetime(2026, 11, 28, 7, 6, 5, tzinfo=UTC)) == "intents-20261128-070605"
    assert len(job_name("x" * 40)) <= 63
