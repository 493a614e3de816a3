from __future__ import annotations

from typing import Any

import pytest

from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.checks import check, fits_serverless, machine
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings
from bertie.errors import UsageError

OURS = "registry.example/bertie:1"


def checked(models: int = 1, **given: Any) -> Any:
    tables: list[dict[str, Any]] = []
    for settings in (AwsSettings, ContainerSettings, HostingSettings):
        tables.append({key: value for key, value in given.items() if key in settings.model_fields})
    assert sum(map(len, tables)) == len(given)
    return check(
        AwsSettings.load(tables[0], environment={}),
        ContainerSettings.load({"image": OURS} | tables[1], environment={}),
        HostingSettings.load(tables[2], environment={}),
        models=models,
    )


CPU = {"instance_type": "ml.c7i.xlarge"}
SCALED = CPU | {"max_instances": 3}


@pytest.mark.parametrize(
    "given",
    [
        CPU,
        {"instance_type": "ml.c8g.large"},
        {"instance_type": "ml.g5.xlarge", "image": "huggingface"},
        {"serverless": True},
        {"serverless": True, "concurrency": 200, "provisioned": 200},
        CPU | {"asynchronous": True, "output": "s3://bucket/x", "min_instances": 0, "max_instances": 2},
        CPU | {"multi_model": True},
        SCALED | {"min_instances": 1},
        CPU | {"kms_key": "alias/k", "subnets": "a", "security_groups": "b"},
    ],
)
def test_what_goes_together(given: dict[str, Any]) -> None:
    found = checked(**given)
    assert (found is None) == bool(given.get("serverless"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no instance type"),
        ({"instance_type": "ml.g5.xlarge"}, "CPU only"),
        ({"instance_type": "ml.eia2.medium"}, "no longer exists"),
        ({"instance_type": "ml.inf2.xlarge", "image": "huggingface"}, "accelerator"),
        ({"instance_type": "ml.c7g.large", "image": "huggingface"}, "ARM"),
        ({"serverless": True} | CPU, "--instance-type"),
        ({"serverless": True, "capture": "s3://bucket/x"}, "--capture"),
        ({"serverless": True, "network_isolation": True}, "--network-isolation"),
        ({"serverless": True, "subnets": "a", "security_groups": "b"}, "--subnets"),
        ({"serverless": True, "max_instances": 2}, "--max-instances"),
        ({"serverless": True, "min_instances": 0}, "--max-instances"),
        ({"serverless": True, "start_seconds": 90}, "--start-seconds"),
        ({"serverless": True, "multi_model": True}, "do not go together"),
        ({"serverless": True, "asynchronous": True}, "do not go together"),
        ({"serverless": True, "concurrency": 201}, "200"),
        ({"serverless": True, "provisioned": 6}, "--provisioned"),
        (CPU | {"provisioned": 1}, "--provisioned"),
        (CPU | {"asynchronous": True}, "a place for its answers"),
        (CPU | {"asynchronous": True, "output": "s3://bucket/x", "capture": "s3://bucket/y"}, "data capture"),
        (CPU | {"output": "s3://bucket/x"}, "--output"),
        (CPU | {"concurrency": 3}, "--concurrency"),
        (CPU | {"min_instances": 1}, "--min-instances"),
        (SCALED | {"min_instances": 0}, "no instance at all"),
        (SCALED | {"min_instances": 4}, "more than"),
        (SCALED | {"instance_count": 5}, "more than"),
        (SCALED | {"min_instances": 2}, "not between"),
        (CPU | {"subnets": "a"}, "both"),
        ({"instance_type": "ml.g5.xlarge", "image": "huggingface", "multi_model": True}, "Triton"),
    ],
)
def test_what_does_not(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked(**given)


def test_several_models_need_their_kind_of_endpoint() -> None:
    with pytest.raises(UsageError, match="2 models"):
        checked(models=2, **CPU)
    assert checked(models=2, multi_model=True, **CPU)


@pytest.mark.parametrize(
    "wrong",
    [{"memory_mb": 1500}, {"memory_mb": 7168}, {"name": "under_score"}, {"name": "x" * 51}, {"output": "bucket"}],
)
def test_values_that_sagemaker_does_not_take(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        HostingSettings.load(wrong, environment={})


def test_a_batch_job_needs_a_fitting_machine_too() -> None:
    with pytest.raises(UsageError, match="CPU only"):
        machine(ContainerSettings.load({"image": OURS, "instance_type": "ml.g6.xlarge"}, environment={}))


def test_the_limit_of_serverless() -> None:
    fits_serverless(400 * 2**20, "bertie", 2048)
    with pytest.raises(UsageError) as raised:
        fits_serverless(900 * 2**20, "huggingface", 2048)
    assert raised.value.hint == "--memory-mb 3072"
    fits_serverless(900 * 2**20, "huggingface", 3072)
    for huge in (3 * 2**30, 6 * 10**9):
        with pytest.raises(UsageError, match="more than a serverless endpoint has"):
            fits_serverless(huge, "bertie", 6144)
