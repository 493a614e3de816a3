"""`bertie deploy sagemaker`: check, pack, verify, upload, make or replace, wait, try.

Nothing is sent before the artifact has answered on this machine as its bundle does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.deploy.aws.calls import Caller, Made
from bertie.deploy.aws.session import open_session, role_arn
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.store import Store, check_places, key_of, open_store
from bertie.deploy.naming import name_of
from bertie.deploy.sagemaker.checks import check
from bertie.deploy.sagemaker.cost import preview, sentence
from bertie.deploy.sagemaker.endpoint import Plan, alarm_name, policy_name, resource, waking_name
from bertie.deploy.sagemaker.images import Kind, image_uri, kind_of
from bertie.deploy.sagemaker.pack import pack
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings
from bertie.deploy.sagemaker.state import (
    Clock,
    delete_command,
    endpoint_state,
    ours,
    ready_for,
    status_command,
    wait_in_service,
)
from bertie.deploy.sagemaker.trial import Trial, snippet, try_asynchronous, try_endpoint
from bertie.errors import DeployError, NameTaken, UsageError
from bertie.talk import Talk

THAT_POLICY = "the PolicyARN that PutScalingPolicy answers with"
"""Stands in a dry run for what AWS makes up."""


@dataclass(frozen=True)
class Wanted:
    """What the user asks for, all of it."""

    models: Sequence[Path]
    aws: AwsSettings
    container: ContainerSettings
    hosting: HostingSettings
    update: bool = False
    dry: bool = False
    prices: Path | None = None


def deploy_endpoint(wanted: Wanted, talk: Talk, clock: Clock | None = None) -> dict[str, Any]:
    """Make an endpoint of a model, or replace the model of one; return what `--json` prints.

    Raises UsageError before anything is sent, and DeployError with the list of what was made.
    """
    aws, container, hosting = wanted.aws, wanted.container, wanted.hosting
    found = check(aws, container, hosting, models=len(wanted.models))
    _different([name_of(model) for model in wanted.models])
    if hosting.max_instances and not container.wait:
        raise UsageError("scaling can be set when the endpoint is ready.", hint="leave --no-wait out")
    name, kind = hosting.name or name_of(wanted.models[0]), kind_of(container.image)
    count = hosting.min_instances or container.instance_count
    cost = preview(container.instance_type, count, wanted.prices, most=hosting.max_instances)
    session = open_session(aws, dry=wanted.dry)
    caller = Caller(session)
    image = image_uri(session, container.image, gpu=found is not None and found.kind == "gpu")
    role = role_arn(session, aws.role)
    old = None if wanted.dry else endpoint_state(caller, name)
    if not wanted.dry:
        if wanted.update and old is not None and not ours(caller, old["EndpointArn"], name):
            raise DeployError(
                f"the endpoint {name!r} was not made by bertie, which could not remove it later.",
                hint="make a new one with --name, and move its clients",
            )
        ready_for(old, name, session.flags, update=wanted.update, serverless=hosting.serverless)
    trial = Trial.of(wanted.models[0])
    if hosting.serverless:
        talk.say("cost: by request" + (", and all the time for what is provisioned" if hosting.provisioned else ""))
    else:
        talk.say(sentence(cost))
    with caller.accounted():
        check_places(caller, hosting.output, hosting.capture)
        store = open_store(caller, aws, make=False)
        data, artifacts = _uploaded(wanted, store, name, kind, talk)
        plan = Plan(name, role, image, kind, data, aws, container, hosting)
        configuration = _made(caller, plan, old, talk, update=wanted.update)
    facts: dict[str, Any] = {
        "name": name,
        "region": session.region,
        "kind": _kind(hosting),
        "image": image,
        "artifacts": artifacts,
        "configuration": configuration,
        "cost": cost,
        "snippet": snippet(name, session.region, trial, kind=_kind(hosting), target=_target(plan, artifacts)),
    }
    if wanted.dry:
        if container.wait:
            _scale(caller, plan)
            _tried(caller, store, plan, trial, talk, _target(plan, artifacts), clock)
        return facts | {"requests": [request.as_dict() for request in caller.requests]}
    if container.wait:
        minutes = container.wait_minutes + (plan.replaced_within() if wanted.update else 0)
        with caller.accounted(_goes_on(plan, session.flags, update=wanted.update), in_use=wanted.update):
            wait_in_service(caller, name, configuration, talk, minutes=minutes, clock=clock)
        live, caller.made = (caller.made, []) if wanted.update else ([], caller.made)  # what answers is no left-over
        with caller.accounted():
            _scale(caller, plan)
            facts["answer"] = _tried(caller, store, plan, trial, talk, _target(plan, artifacts), clock)
        caller.made = [*live, *caller.made]
    return facts | {"made": [made.what for made in caller.made]}


def _different(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two of the models are called {name!r}, and requests name the one they want.",
                hint="rename a folder: a model is called as its folder, or as that of its run",
            )


def _uploaded(wanted: Wanted, store: Store, name: str, kind: Kind, talk: Talk) -> tuple[str, list[dict[str, Any]]]:
    """Pack, verify and upload the models; return the address for CreateModel, and what is known of each artifact."""
    memory = wanted.hosting.memory_mb if wanted.hosting.serverless else None
    with tempfile.TemporaryDirectory(prefix="bertie-") as folder:
        verify = wanted.container.verify
        ready = [pack(model, Path(folder), kind, talk, verify=verify, memory_mb=memory) for model in wanted.models]
        files: list[dict[str, Any]] = []
        for artifact in ready:
            several = wanted.hosting.multi_model
            where = ("models", artifact.path.name) if several else (artifact.sha256[:12], "model.tar.gz")
            uri = store.put_file(artifact.path, key_of(name, *where), name, talk)
            files.append({"uri": uri, "sha256": artifact.sha256, "bytes": artifact.bytes})
    if wanted.hosting.multi_model:
        return store.uri(key_of(name, "models") + "/"), files
    return files[0]["uri"], files


def _made(caller: Caller, plan: Plan, old: dict[str, Any] | None, talk: Talk, *, update: bool) -> str:
    """Send the requests that make or replace the endpoint; return the name of its configuration."""
    name, region = plan.name, caller.session.region
    model = plan.model()
    _once(caller, "CreateModel", model, "model", model["ModelName"], "model-name")
    configuration = plan.configuration(model["ModelName"])
    called: str = configuration["EndpointConfigName"]
    _once(caller, "CreateEndpointConfig", configuration, "endpoint configuration", called, "endpoint-config-name")
    if not update:
        talk.say(f"making the endpoint {name} in {region}")
        made = Made(f"endpoint {name}", delete_command(name, caller.session.flags))
        try:
            caller.send("sagemaker", "CreateEndpoint", plan.endpoint(called), f"make the endpoint {name}", makes=made)
        except NameTaken:
            # There was none a moment ago: the answer was lost, and the library asked again. Or somebody was faster.
            there = endpoint_state(caller, name)
            if there is None or there.get("EndpointConfigName") != called:
                raise
            caller.made.append(made)
        return called
    if old and old.get("EndpointConfigName") == called:
        talk.say(f"the endpoint {name} has this configuration already")  # as where a model joins those of an endpoint
        return called
    if not plan.hosting.serverless:
        alarm = alarm_name(name)
        made = Made(f"alarm {alarm}", f"aws cloudwatch delete-alarms --alarm-names {alarm} --region {region}")
        caller.send("cloudwatch", "PutMetricAlarm", plan.alarm(), f"make the alarm {alarm}", makes=made)
    talk.say(f"replacing the model of the endpoint {name}; the old one answers until the new one is ready")
    request = plan.update(called, scaled=not caller.dry and _is_scaled(caller, name))
    caller.send("sagemaker", "UpdateEndpoint", request, f"update the endpoint {name}")
    return called


def _once(caller: Caller, operation: str, arguments: dict[str, Any], what: str, called: str, flag: str) -> None:
    """Make something whose name is a hash of what it is: if it is there, it is what is wanted."""
    verb = operation.removeprefix("Create")
    command = {"Model": "delete-model", "EndpointConfig": "delete-endpoint-config"}[verb]
    made = Made(f"{what} {called}", f"aws sagemaker {command} --{flag} {called} --region {caller.session.region}")
    try:
        caller.send("sagemaker", operation, arguments, f"make the {what} {called}", makes=made)
    except NameTaken:
        return


def _is_scaled(caller: Caller, name: str) -> bool:
    arguments = {"ServiceNamespace": "sagemaker", "ResourceIds": [resource(name)]}
    try:
        found = caller.read("application-autoscaling", "DescribeScalableTargets", arguments, "look at the scaling")
    except DeployError:  # one who may not see it does not scale by it
        return False
    return bool(found.get("ScalableTargets"))


def _scale(caller: Caller, plan: Plan) -> None:
    region = caller.session.region
    for operation, arguments in plan.scaling():
        where = f"--service-namespace sagemaker --scalable-dimension {arguments['ScalableDimension']}"
        remove = (
            f"aws application-autoscaling deregister-scalable-target {where} --resource-id {arguments['ResourceId']} "
            f"--region {region}"
        )
        made = Made(f"scaling {policy_name(plan.name)}", remove) if operation == "RegisterScalableTarget" else None
        caller.send("application-autoscaling", operation, arguments, "set the scaling", makes=made)
    if (waking := plan.waking()) is not None:
        answer = caller.send("application-autoscaling", "PutScalingPolicy", waking, "set the scaling")
        alarm = waking_name(plan.name)
        made = Made(f"alarm {alarm}", f"aws cloudwatch delete-alarms --alarm-names {alarm} --region {region}")
        request = plan.waking_alarm(answer.get("PolicyARN", THAT_POLICY))
        caller.send("cloudwatch", "PutMetricAlarm", request, f"make the alarm {alarm}", makes=made)


def _tried(
    caller: Caller, store: Store, plan: Plan, trial: Trial, talk: Talk, target: str | None, clock: Clock | None
) -> Any:
    talk.say("asking it")
    if plan.hosting.asynchronous:
        return try_asynchronous(caller, store, plan.name, trial, talk, clock)
    return try_endpoint(caller, plan.name, trial, target=target)


def _kind(hosting: HostingSettings) -> str:
    if hosting.serverless:
        return "serverless"
    if hosting.asynchronous:
        return "asynchronous"
    return "multi-model" if hosting.multi_model else "real-time"


def _target(plan: Plan, artifacts: list[dict[str, Any]]) -> str | None:
    return str(artifacts[0]["uri"]).rsplit("/", 1)[-1] if plan.hosting.multi_model else None


def _goes_on(plan: Plan, flags: str, *, update: bool) -> str:
    scaling = " Scaling is not set yet." if plan.hosting.max_instances else ""
    if update:
        return (
            f"the update of the endpoint {plan.name} goes on, and the old model answers until it is done.{scaling}\n"
            f"follow it: {status_command(plan.name, flags)}"
        )
    return (
        f"the endpoint {plan.name} goes on being made, and costs money when it is ready.{scaling}\n"
        f"follow it: {status_command(plan.name, flags)}\nremove it: {delete_command(plan.name, flags, everything=True)}"
    )
