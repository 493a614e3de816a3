"""`bertie deploy sagemaker-delete`: what a name has made goes away, and what is gone already is no error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bertie.deploy.aws.calls import Caller
from bertie.deploy.aws.session import open_session
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.store import key_of, split_uri, usual_bucket
from bertie.deploy.sagemaker.endpoint import SCALED, alarm_name, log_group, policy_name, resource, waking_name
from bertie.deploy.sagemaker.state import Clock, delete_command, endpoint_state, ours
from bertie.errors import AccessDenied, DeployError, Interrupted, ResourceMissing
from bertie.talk import Talk

OBJECTS_A_REQUEST = 1000
LONGEST_WAIT_SECONDS = 1800.0
"""An endpoint that is being made cannot be removed before that has ended."""
JOBS = {"training": "TrainingJob", "batch": "TransformJob"}
"""Kinds of jobs, and what SageMaker's requests call them."""


def remove(
    name: str,
    aws: AwsSettings,
    talk: Talk,
    *,
    everything: bool = False,
    logs: bool = False,
    dry: bool = False,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Remove an endpoint with its scaling and alarms.

    `everything` stops the name's jobs too, and removes configurations, models and files in S3; `logs` the lines that
    the endpoint's containers wrote. Returns what was removed. Raises DeployError, for an endpoint too that was not
    made here.
    """
    session = open_session(aws)
    caller = Caller(session, show=dry)
    gone: list[str] = []

    def away(what: str, service: str, operation: str, arguments: dict[str, Any]) -> None:
        with suppress(ResourceMissing):
            answer = caller.send(service, operation, arguments, f"remove the {what}")
            if answer.get("Errors"):  # S3 says yes as a whole, and no to single files
                raise DeployError(f"cannot remove all of {what}: {answer['Errors'][0].get('Message', 'no reason')}.")
            gone.append(what)
            talk.say(f"{'would remove' if dry else 'removed'} {what}")

    state = endpoint_state(caller, name)
    if state is not None and not ours(caller, state["EndpointArn"], name):
        raise DeployError(
            f"the endpoint {name!r} was not made by bertie, and is left alone.",
            hint=f"aws sagemaker delete-endpoint --endpoint-name {name} --region {session.region}",
        )
    with _accounted(gone, delete_command(name, session.flags, everything=everything)):
        with _told_of(talk, "its scaling"):
            _scaling(caller, name, away)
        if state is not None:
            _wait_for_peace(caller, name, talk, clock or Clock())
            away(f"endpoint {name}", "sagemaker", "DeleteEndpoint", {"EndpointName": name})
        with _told_of(talk, "its alarms"):
            for alarm in _alarms(caller, name):
                away(f"alarm {alarm}", "cloudwatch", "DeleteAlarms", {"AlarmNames": [alarm]})
        if everything:
            _jobs(caller, name, away, talk, clock or Clock())
            _rest(caller, name, aws, away)
        if logs and _has_logs(caller, name):
            away(f"log group {log_group(name)}", "logs", "DeleteLogGroup", {"logGroupName": log_group(name)})
    facts: dict[str, Any] = {"name": name, "region": session.region, "removed": gone}
    return facts | ({"requests": [request.as_dict() for request in caller.requests]} if dry else {})


@contextmanager
def _accounted(gone: list[str], again: str) -> Iterator[None]:
    """Add to every error, and to Ctrl-C, what is gone already, and the command that removes the rest."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted.", hint=_left(gone, again)) from None
    except DeployError as error:
        hint = "\n".join(filter(None, [error.hint, _left(gone, again)]))
        raise type(error)(error.what, expected=error.expected, hint=hint) from error


def _left(gone: list[str], again: str) -> str:
    return f"removed: {', '.join(gone) or 'nothing'}\nthe rest stays, and may cost money: {again}"


@contextmanager
def _told_of(talk: Talk, what: str) -> Iterator[None]:
    """Go on without what the user may not see: the endpoint is what costs money."""
    try:
        yield
    except AccessDenied as error:
        talk.warn(f"{what} stays: {error.what}")


Away = Callable[[str, str, str, dict[str, Any]], None]


def _jobs(caller: Caller, name: str, away: Away, talk: Talk, clock: Clock) -> None:
    """Stop what runs, and wait for its end: a job that is stopped writes files once more, which are to go too."""
    stopped: list[tuple[str, str]] = []
    for kind, called in JOBS.items():
        with _told_of(talk, f"a {kind} job"):
            for job in list(_named(caller, name, f"List{called}s", f"{called}Summaries", called, "InProgress")):
                away(f"{kind} job {job}", "sagemaker", f"Stop{called}", {f"{called}Name": job})
                stopped.append((job, called))
    # All are stopped before one is waited for: each costs money until then.
    for job, called in stopped if not caller.dry else ():
        with _told_of(talk, f"what the job {job} may still write"):
            _wait_for_the_end(caller, job, called, talk, clock)


def _wait_for_the_end(caller: Caller, job: str, called: str, talk: Talk, clock: Clock) -> None:
    started = clock.now()
    talk.say(f"waiting until the job {job} has stopped")
    while clock.now() - started < LONGEST_WAIT_SECONDS:
        state = caller.read("sagemaker", f"Describe{called}", {f"{called}Name": job}, f"look at the job {job}")
        if state[f"{called}Status"] not in {"InProgress", "Stopping"}:
            return
        clock.sleep(clock.poll_seconds)


def _rest(caller: Caller, name: str, aws: AwsSettings, away: Away) -> None:
    buckets = {aws.bucket or usual_bucket(caller.session)}
    for called in _named(caller, name, "ListEndpointConfigs", "EndpointConfigs", "EndpointConfig"):
        what = f"endpoint configuration {called}"
        away(what, "sagemaker", "DeleteEndpointConfig", {"EndpointConfigName": called})
    for called in _named(caller, name, "ListModels", "Models", "Model"):
        found = caller.read("sagemaker", "DescribeModel", {"ModelName": called}, f"look at the model {called}")
        if place := found.get("PrimaryContainer", {}).get("ModelDataUrl"):
            buckets.add(split_uri(place)[0])
        away(f"model {called}", "sagemaker", "DeleteModel", {"ModelName": called})
    for bucket in sorted(buckets):
        keys = list(_keys(caller, bucket, key_of(name) + "/"))
        for start in range(0, len(keys), OBJECTS_A_REQUEST):
            some = keys[start : start + OBJECTS_A_REQUEST]
            what = f"{len(some)} files under s3://{bucket}/{key_of(name)}/"
            objects = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            away(what, "s3", "DeleteObjects", {"Bucket": bucket, "Delete": objects})


def _named(caller: Caller, name: str, operation: str, field: str, kind: str, status: str = "") -> Iterator[str]:
    """Yield the names of models, configurations or jobs that carry the name's tag, of jobs those in a state."""
    asked = {"NameContains": name} | ({"StatusEquals": status} if status else {})
    pages = caller.pages("sagemaker", operation, asked, f"list the {field} of {name}")
    for found in [row for page in pages for row in page.get(field, [])]:
        if found[f"{kind}Name"].startswith(name) and ours(caller, found[f"{kind}Arn"], name):
            yield str(found[f"{kind}Name"])


def _keys(caller: Caller, bucket: str, prefix: str) -> Iterator[str]:
    with suppress(ResourceMissing, AccessDenied):  # the usual bucket may not be there, or be somebody else's
        arguments = {"Bucket": bucket, "Prefix": prefix}
        for page in caller.pages("s3", "ListObjectsV2", arguments, f"list s3://{bucket}/{prefix}"):
            yield from (found["Key"] for found in page.get("Contents", []))


def _scaling(caller: Caller, name: str, away: Away) -> None:
    of = {"ServiceNamespace": "sagemaker", "ResourceId": resource(name)}
    which = {"ServiceNamespace": "sagemaker", "ResourceIds": [resource(name)]}
    service = "application-autoscaling"
    found = caller.read(service, "DescribeScalingPolicies", of, "look at the scaling").get("ScalingPolicies", [])
    for policy in sorted({one["PolicyName"] for one in found} & {policy_name(name), waking_name(name)}):
        arguments = {**of, "PolicyName": policy, "ScalableDimension": SCALED}
        away(f"scaling policy {policy}", service, "DeleteScalingPolicy", arguments)
    if caller.read(service, "DescribeScalableTargets", which, "look at the scaling").get("ScalableTargets"):
        away(f"scaling of {name}", service, "DeregisterScalableTarget", {**of, "ScalableDimension": SCALED})


def _alarms(caller: Caller, name: str) -> list[str]:
    asked = {"AlarmNames": [alarm_name(name), waking_name(name)]}
    found = caller.read("cloudwatch", "DescribeAlarms", asked, "look at the alarms")
    return sorted(alarm["AlarmName"] for alarm in found.get("MetricAlarms", []))


def _has_logs(caller: Caller, name: str) -> bool:
    group = log_group(name)
    found = caller.read("logs", "DescribeLogGroups", {"logGroupNamePrefix": group}, "look at the logs")
    return any(one["logGroupName"] == group for one in found.get("logGroups", []))


def _wait_for_peace(caller: Caller, name: str, talk: Talk, clock: Clock) -> None:
    """Wait while the endpoint is being made or changed: SageMaker removes none in that state."""
    started, told = clock.now(), False
    while clock.now() - started < LONGEST_WAIT_SECONDS:
        state = endpoint_state(caller, name)
        if caller.dry or state is None or state["EndpointStatus"] not in {"Creating", "Updating", "RollingBack"}:
            return
        if not told:
            talk.say(f"the endpoint {name} is {state['EndpointStatus']}; it can be removed when that has ended")
            told = True
        clock.sleep(clock.poll_seconds)
