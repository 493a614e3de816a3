"""What is there of an endpoint, and waiting until it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bertie.deploy.aws.calls import Caller, StillGoingOn
from bertie.deploy.aws.tags import tagged
from bertie.deploy.sagemaker.endpoint import log_group
from bertie.errors import DeployError, NameTaken, ResourceMissing
from bertie.talk import Talk

POLL_SECONDS = 10.0
DONE = frozenset({"InService", "Failed", "OutOfService", "UpdateRollbackFailed"})
"""States that do not end by themselves."""


@dataclass(frozen=True)
class Clock:
    """How time passes while we wait; tests make it short."""

    poll_seconds: float = POLL_SECONDS
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def endpoint_state(caller: Caller, name: str) -> dict[str, Any] | None:
    """Return what SageMaker says of an endpoint, None if it is not there."""
    try:
        return caller.read("sagemaker", "DescribeEndpoint", {"EndpointName": name}, f"look for the endpoint {name}")
    except ResourceMissing:
        return None


def ready_for(old: dict[str, Any] | None, name: str, flags: str, *, update: bool, serverless: bool) -> None:
    """Raise NameTaken for an endpoint that exists, ResourceMissing for one to be updated that does not, and
    DeployError for one that cannot be updated in the state in which it is.
    """
    if old is None:
        if update:
            raise ResourceMissing(f"there is no endpoint {name!r} to update.", hint="leave --update out to make it")
        return
    status = old["EndpointStatus"]
    if not update:
        raise NameTaken(
            f"an endpoint {name!r} exists already, and is {status}.",
            hint=f"--update replaces its model in place, --name gives another, {delete_command(name, flags)} "
            "removes it",
        )
    if status == "Failed":
        raise DeployError(
            f"the endpoint {name!r} has failed, and SageMaker updates no such one: {reason(old)}",
            hint=f"{delete_command(name, flags)}, then the same without --update",
        )
    if status != "InService":
        raise DeployError(
            f"the endpoint {name!r} is {status}, and cannot be updated now.", hint=status_command(name, flags)
        )
    if serverless and not any("CurrentServerlessConfig" in one for one in old.get("ProductionVariants", [])):
        raise DeployError(
            f"the endpoint {name!r} has machines of its own, and SageMaker makes none of those serverless.",
            hint="make a new one with --name, or leave --serverless out",
        )


def wait_in_service(
    caller: Caller, name: str, configuration: str, talk: Talk, *, minutes: float, clock: Clock | None = None
) -> dict[str, Any]:
    """Wait until the endpoint answers with a configuration; return its state.

    Raises DeployError with SageMaker's reason if it fails, if an update was undone, or if it takes too long.
    """
    clock = clock or Clock()
    started, last = clock.now(), ""
    while True:
        state = caller.read("sagemaker", "DescribeEndpoint", {"EndpointName": name}, f"look at the endpoint {name}")
        status, passed = str(state["EndpointStatus"]), clock.now() - started
        if status != last:
            talk.say(f"{passed / 60:5.1f} min  {status}")
            last = status
        if status in DONE:
            return _judged(state, name, configuration, caller.session.flags)
        if passed > minutes * 60:
            raise StillGoingOn(
                f"the endpoint {name!r} is still {status} after {minutes:g} minutes.",
                hint=status_command(name, caller.session.flags),
            )
        clock.sleep(clock.poll_seconds)


def _judged(state: dict[str, Any], name: str, configuration: str, flags: str) -> dict[str, Any]:
    status = state["EndpointStatus"]
    hint = f"{logs_command(name, flags)} shows what the container said, in {log_group(name)}"
    if status != "InService":
        raise DeployError(f"the endpoint {name!r} is {status}: {reason(state)}", hint=hint)
    if state.get("EndpointConfigName") != configuration:
        # In service, but with the old model: SageMaker reports an update that was undone so.
        raise DeployError(f"the update of {name!r} was undone, and the old model answers: {reason(state)}", hint=hint)
    return state


def ours(caller: Caller, arn: str, name: str) -> bool:
    """Return whether something was made here, under this name: by its tags."""
    pages = caller.pages("sagemaker", "ListTags", {"ResourceArn": arn}, f"read the tags of {arn}")
    return any(tagged(page.get("Tags", []), name) for page in pages)


def reason(state: dict[str, Any]) -> str:
    """Return why something failed, in AWS's words."""
    return str(state.get("FailureReason") or "SageMaker gives no reason.").strip()


def status_command(name: str, flags: str) -> str:
    """Return the command that tells how an endpoint is; `flags` say where (Session.flags)."""
    return f"bertie deploy sagemaker-status {name}{flags}"


def logs_command(name: str, flags: str) -> str:
    """Return the command that shows what an endpoint's containers said."""
    return f"bertie deploy sagemaker-logs {name}{flags}"


def delete_command(name: str, flags: str, *, everything: bool = False) -> str:
    """Return the command that removes an endpoint, or all that its name has made."""
    return f"bertie deploy sagemaker-delete {name}{flags}{' --all' if everything else ''}"
