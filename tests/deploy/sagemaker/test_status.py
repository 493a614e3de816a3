from __future__ import annotations

import time
from itertools import islice
from typing import Any

import pytest

from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.endpoint import log_group
from bertie.deploy.sagemaker.state import Clock
from bertie.deploy.sagemaker.status import lines, status
from bertie.errors import DeployError, ResourceMissing
from tests.deploy.aws.cloud import ACCOUNT, ROLE, Cloud

AWS = AwsSettings.load({}, environment={})
STREAM = {"logGroupName": log_group("intents"), "logStreamName": "AllTraffic/i-1"}


def make_endpoint(cloud: Cloud, variant: dict[str, Any]) -> None:
    sagemaker, role = cloud.client("sagemaker"), f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": "x"})
    one = {"VariantName": "AllTraffic", "ModelName": "m", **variant}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[one])
    sagemaker.create_endpoint(EndpointName="intents", EndpointConfigName="c")


def test_an_endpoint_with_machines(cloud: Cloud) -> None:
    failed = {"EndpointStatus": "Failed", "FailureReason": "no capacity"}
    cloud.states(endpoint=[failed])
    make_endpoint(cloud, {"InstanceType": "ml.c5.large", "InitialInstanceCount": 2})
    cloud.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/intents/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=3,
    )
    facts = status("intents", AWS)
    assert (facts["status"], facts["failure"], facts["instances"]) == ("Failed", "no capacity", 2)
    assert facts["scaling"] == {"min": 1, "max": 3}
    assert facts["cost"]["usd_per_hour"] == pytest.approx(0.204)
    cloud.fail([{"operation": "DescribeScalableTargets", "code": "AccessDeniedException"}])
    assert "scaling" not in status("intents", AWS)


def test_a_serverless_one_and_none(cloud: Cloud) -> None:
    with pytest.raises(ResourceMissing, match="no endpoint"):
        status("intents", AWS)
    make_endpoint(cloud, {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 3}})
    facts = status("intents", AWS)
    assert facts["serverless"]["MemorySizeInMB"] == 2048
    assert "cost" not in facts


def say(cloud: Cloud, message: str) -> None:
    events = [{"timestamp": int(time.time() * 1000), "message": message}]
    cloud.client("logs").put_log_events(**STREAM, logEvents=events)


def test_log_lines_are_followed_and_come_once(cloud: Cloud) -> None:
    logs = cloud.client("logs")
    with pytest.raises(ResourceMissing, match="no log"):
        list(lines("intents", AWS, minutes=5, follow=False))
    logs.create_log_group(logGroupName=STREAM["logGroupName"])
    logs.create_log_stream(**STREAM)
    say(cloud, "first")
    found = lines("intents", AWS, minutes=5, follow=True, clock=Clock(sleep=lambda _: say(cloud, "next")))
    assert [line[-5:].strip() for line in islice(found, 3)] == ["first", "next", "next"]
    cloud.fail([{"operation": "FilterLogEvents", "code": "AccessDeniedException"}])
    with pytest.raises(DeployError):
        next(found)
