"""`bertie deploy sagemaker-status` and `sagemaker-logs`: how an endpoint is, and what its containers say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from bertie.deploy.aws.calls import Caller
from bertie.deploy.aws.session import open_session
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.cost import preview
from bertie.deploy.sagemaker.endpoint import log_group, resource
from bertie.deploy.sagemaker.state import Clock, endpoint_state
from bertie.errors import DeployError, ResourceMissing

FOLLOW_SECONDS = 3.0


def status(name: str, aws: AwsSettings) -> dict[str, Any]:
    """Return how an endpoint is: its state, machines, model, scaling and cost. Raises ResourceMissing."""
    caller = Caller(open_session(aws))
    found = endpoint_state(caller, name)
    if found is None:
        raise ResourceMissing(
            f"there is no endpoint {name!r} in {caller.session.region}.",
            hint=f"aws sagemaker list-endpoints --region {caller.session.region} shows them",
        )
    called = found["EndpointConfigName"]
    asked = {"EndpointConfigName": called}
    configuration = caller.read("sagemaker", "DescribeEndpointConfig", asked, f"look at the configuration {called}")
    variant = configuration["ProductionVariants"][0]
    now: dict[str, Any] = next(iter(found.get("ProductionVariants", [])), {})
    instances = now.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
    facts = {
        "name": name,
        "region": caller.session.region,
        "status": found["EndpointStatus"],
        "failure": found.get("FailureReason"),
        "changed": found.get("LastModifiedTime"),
        "model": variant.get("ModelName"),
        "configuration": called,
        "instance_type": variant.get("InstanceType"),
        "instances": instances,
        "serverless": variant.get("ServerlessConfig"),
        "scaling": _scaling(caller, name),
        "cost": preview(variant.get("InstanceType"), instances),
    }
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}


def _scaling(caller: Caller, name: str) -> dict[str, int]:
    asked = {"ServiceNamespace": "sagemaker", "ResourceIds": [resource(name)]}
    try:
        targets = caller.read("application-autoscaling", "DescribeScalableTargets", asked, "look at the scaling")
    except DeployError:  # without the permission to see it, the rest is still worth telling
        return {}
    return next(
        ({"min": one["MinCapacity"], "max": one["MaxCapacity"]} for one in targets.get("ScalableTargets", [])), {}
    )


def lines(name: str, aws: AwsSettings, *, minutes: float, follow: bool, clock: Clock | None = None) -> Iterator[str]:
    """Yield what an endpoint's containers wrote in the last minutes, each line with its time; for ever to follow it.

    Raises ResourceMissing where there is no log yet.
    """
    caller, clock = Caller(open_session(aws)), clock or Clock(poll_seconds=FOLLOW_SECONDS)
    group = log_group(name)
    since, seen = int((time.time() - minutes * 60) * 1000), set[str]()
    while True:
        asked = {"logGroupName": group, "startTime": since}
        try:
            pages = list(caller.pages("logs", "FilterLogEvents", asked, f"read the log {group}"))
        except ResourceMissing as error:
            raise ResourceMissing(
                f"there is no log of {name!r}.",
                hint=f"a container writes one when it starts; see bertie deploy sagemaker-status {name}",
            ) from error
        for event in (event for page in pages for event in page.get("events", [])):
            if event["eventId"] not in seen:
                seen.add(event["eventId"])
                since = max(since, event["timestamp"])
                when = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
                yield f"{when:%Y-%m-%d %H:%M:%S}  {event['message'].rstrip()}"
        if not follow:
            return
        clock.sleep(clock.poll_seconds)
