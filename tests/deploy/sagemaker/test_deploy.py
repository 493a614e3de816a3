from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from bertie.bundle.manifest import Manifest
from bertie.bundle.probe import Probe
from bertie.config import ServeSettings
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.tags import tags
from bertie.deploy.sagemaker.deploy import Wanted, deploy_endpoint
from bertie.deploy.sagemaker.endpoint import Plan, alarm_name, resource
from bertie.deploy.sagemaker.remove import remove
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings
from bertie.deploy.sagemaker.state import Clock
from bertie.errors import (
    AccessDenied,
    DeployError,
    Interrupted,
    NameTaken,
    QuotaExceeded,
    ResourceMissing,
    UsageError,
)
from bertie.talk import Talk
from tests.deploy.aws.cloud import ACCOUNT, QUICK, REGION, ROLE, Cloud

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/bertie:1"
QUIET = Talk(quiet=True)
BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
UPLOADS = {"CreateBucket", "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}


@dataclass
class Desk:
    """A user with a bundle."""

    cloud: Cloud
    bundle: Path

    def deploy(
        self,
        *models: Path,
        aws: Mapping[str, Any] | None = None,
        container: Mapping[str, Any] | None = None,
        update: bool = False,
        dry: bool = False,
        clock: Clock = QUICK,
        **hosting: Any,
    ) -> dict[str, Any]:
        machine = {} if hosting.get("serverless") else {"instance_type": "ml.c7i.xlarge"}
        usual = {"image": IMAGE, "verify": False, **machine}
        wanted = Wanted(
            models or (self.bundle,),
            AwsSettings.load({"role": ROLE, **(aws or {})}, environment={}),
            ContainerSettings.load(usual | dict(container or {}), environment={}),
            HostingSettings.load({"name": "intents", **hosting}, environment={}),
            update,
            dry,
        )
        return deploy_endpoint(wanted, QUIET, clock)

    def remove(self, **how: bool) -> dict[str, Any]:
        return remove("intents", AwsSettings.load({}, environment={}), QUIET, clock=QUICK, **how)


@pytest.fixture
def desk(cloud: Cloud, tiny_bundle: Path) -> Desk:
    """A user whose endpoint answers as the bundle does."""
    probe, manifest = Probe.from_file(tiny_bundle / "probe.json"), Manifest.from_file(tiny_bundle / "manifest.json")
    scores = probe.scores[1]
    right = {"label": manifest.labels[scores.index(max(scores))], "score": max(scores)}
    cloud.answers(*[json.dumps([right])] * 5)
    return Desk(cloud, tiny_bundle)


def changes(cloud: Cloud) -> list[str]:
    return [operation for operation in cloud.operations() if operation not in UPLOADS]


def sent(cloud: Cloud, operation: str) -> dict[str, Any]:
    found = [arguments for name, arguments in cloud.calls() if name == operation]
    assert len(found) == 1
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model(operation).input_shape
    assert not ParamValidator().validate(found[0], shape).has_errors()
    return found[0]


def test_a_real_time_endpoint_is_made_and_asked(desk: Desk) -> None:
    facts = desk.deploy(aws={"tags": "team=search"})
    assert changes(desk.cloud) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    model, configuration = sent(desk.cloud, "CreateModel"), sent(desk.cloud, "CreateEndpointConfig")
    tags = [{"Key": "bertie:name", "Value": "intents"}, {"Key": "team", "Value": "search"}]
    data = f"s3://{BUCKET}/bertie/intents/{facts['artifacts'][0]['sha256'][:12]}/model.tar.gz"
    assert model["PrimaryContainer"] == {"Image": IMAGE, "ModelDataUrl": data, "Environment": {}}
    assert model["ExecutionRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    assert configuration["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "ModelName": model["ModelName"],
            "InitialInstanceCount": 1,
            "InitialVariantWeight": 1.0,
            "InstanceType": "ml.c7i.xlarge",
        }
    ]
    assert sent(desk.cloud, "CreateEndpoint")["EndpointConfigName"] == configuration["EndpointConfigName"]
    assert model["Tags"] == configuration["Tags"] == sent(desk.cloud, "CreateEndpoint")["Tags"] == tags
    assert desk.cloud.asked()[-1] == "InvokeEndpoint"
    assert facts["answer"][0]["label"]
    assert "endpoint intents" in facts["made"]
    compile(facts["snippet"], "snippet", "exec")


def test_what_is_uploaded_is_the_bundle(desk: Desk, tmp_path: Path) -> None:
    facts = desk.deploy()
    key = facts["artifacts"][0]["uri"].removeprefix(f"s3://{BUCKET}/")
    desk.cloud.client("s3").download_file(BUCKET, key, str(tmp_path / "model.tar.gz"))
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert "manifest.json" in {name.removeprefix("./") for name in archive.getnames()}


def test_waiting_goes_through_the_states(desk: Desk) -> None:
    desk.cloud.states(endpoint=[{"EndpointStatus": "Creating"}] * 3 + [{"EndpointStatus": "InService"}])
    desk.deploy()
    assert desk.cloud.asked().count("DescribeEndpoint") == 5, "once before, to see whether there is one"


def test_an_endpoint_that_fails_tells_why_and_what_is_left(desk: Desk) -> None:
    reason = "The primary container did not pass the ping health check."
    desk.cloud.states(endpoint=[{"EndpointStatus": "Creating"}, {"EndpointStatus": "Failed", "FailureReason": reason}])
    with pytest.raises(DeployError, match="ping health check") as raised:
        desk.deploy()
    for left in ("bertie deploy sagemaker-delete intents", "delete-model", "aws s3 rm", "sagemaker-logs intents"):
        assert left in raised.value.hint


def test_serverless(desk: Desk) -> None:
    desk.deploy(serverless=True, memory_mb=2048, concurrency=20, provisioned=2)
    variant = sent(desk.cloud, "CreateEndpointConfig")["ProductionVariants"][0]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 20, "ProvisionedConcurrency": 2}
    assert "InstanceType" not in variant
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" not in sent(desk.cloud, "CreateModel")["PrimaryContainer"]["Environment"]


def test_aws_image_without_machines_has_one_process(desk: Desk, tiny_run: Path) -> None:
    facts = desk.deploy(tiny_run, container={"image": "huggingface"}, serverless=True, dry=True)
    [made] = [one["arguments"] for one in facts["requests"] if one["operation"] == "CreateModel"]
    assert made["PrimaryContainer"]["Environment"]["SAGEMAKER_MODEL_SERVER_WORKERS"] == "1"


def test_asynchronous_with_scaling_to_none(desk: Desk) -> None:
    out = "s3://answers/intents"
    desk.cloud.bucket("answers")
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:done"
    with pytest.raises(DeployError, match="label"):  # moto's answer is its own, and the label in it is not the bundle's
        desk.deploy(asynchronous=True, output=out, success_topic=topic, concurrency=4, min_instances=0, max_instances=3)
    asynchronous = sent(desk.cloud, "CreateEndpointConfig")["AsyncInferenceConfig"]
    assert asynchronous == {
        "OutputConfig": {"S3OutputPath": out, "NotificationConfig": {"SuccessTopic": topic}},
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
    }
    given = sent(desk.cloud, "CreateModel")["PrimaryContainer"]["Environment"]
    assert given["SAGEMAKER_MODEL_SERVER_TIMEOUT"] == "3600"
    assert given["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "100"
    served = ServeSettings.load({}, environment=given)
    assert (served.queue_seconds, served.max_texts) == (3600, 10**7), "what waits in a queue must not be refused"
    scaling = desk.cloud.client("application-autoscaling")
    found = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    policies = {policy["PolicyName"]: policy for policy in found}
    assert policies["bertie-intents"]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 5
    # Of no instance there is no backlog per instance: requests that wait start the first one.
    waking = policies["bertie-intents-waking"]
    assert waking["StepScalingPolicyConfiguration"]["StepAdjustments"][0]["ScalingAdjustment"] == 1
    [alarm] = desk.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert (alarm["MetricName"], alarm["AlarmActions"]) == ("HasBacklogWithoutCapacity", [waking["PolicyARN"]])
    target = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")
    assert (target["ScalableTargets"][0]["MinCapacity"], target["ScalableTargets"][0]["MaxCapacity"]) == (0, 3)
    removed = desk.remove()["removed"]
    assert {"scaling policy bertie-intents-waking", "alarm bertie-intents-waking"} <= set(removed)
    assert not scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert not desk.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]


def test_where_an_instance_is_always_there_nothing_wakes_the_first(desk: Desk) -> None:
    output = "s3://answers/intents"
    for least, waking in ((1, False), (0, True)):
        facts = desk.deploy(asynchronous=True, output=output, min_instances=least, max_instances=3, dry=True)
        kinds = [one["arguments"].get("PolicyType") for one in facts["requests"]]
        assert ("StepScaling" in kinds) is waking
        assert ("PutMetricAlarm" in [one["operation"] for one in facts["requests"]]) is waking


def test_several_models_on_one_endpoint(desk: Desk, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(desk.bundle, second)
    facts = desk.deploy(desk.bundle, second, multi_model=True)
    container = sent(desk.cloud, "CreateModel")["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert container["ModelDataUrl"] == f"s3://{BUCKET}/bertie/intents/models/"
    assert all(one["uri"].startswith(container["ModelDataUrl"]) for one in facts["artifacts"])
    assert "TargetModel=" in facts["snippet"]


def test_models_of_one_name_cannot_be_told_apart(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="called"):
        desk.deploy(desk.bundle, desk.bundle, multi_model=True)
    assert desk.cloud.operations() == []


def test_every_option_of_the_endpoint_is_sent(desk: Desk) -> None:
    desk.cloud.bucket("captured")
    desk.deploy(
        aws={"kms_key": "alias/k", "subnets": "subnet-1", "security_groups": "sg-1"},
        container={"instance_count": 2, "network_isolation": True, "environment": "A=1,HF_TOKEN=hf_9"},
        capture="s3://captured/x",
        capture_percent=20,
        start_seconds=600,
        download_seconds=300,
        ami="al2-ami-sagemaker-inference-gpu-3-1",
    )
    model, configuration = sent(desk.cloud, "CreateModel"), sent(desk.cloud, "CreateEndpointConfig")
    variant = configuration["ProductionVariants"][0]
    assert model["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert model["EnableNetworkIsolation"] is True
    assert model["PrimaryContainer"]["Environment"] == {"A": "1", "HF_TOKEN": "hf_9"}
    assert configuration["KmsKeyId"] == configuration["DataCaptureConfig"]["KmsKeyId"] == "alias/k"
    assert configuration["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
    assert variant["ModelDataDownloadTimeoutInSeconds"] == 300
    assert variant["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    assert variant["InitialInstanceCount"] == 2


def test_scaling_is_set_when_the_endpoint_is_ready(desk: Desk) -> None:
    desk.cloud.states(endpoint=[{"EndpointStatus": "Creating"}, {"EndpointStatus": "InService"}])
    facts = desk.deploy(min_instances=1, max_instances=4, target_rate=500)
    assert changes(desk.cloud)[-2:] == ["RegisterScalableTarget", "PutScalingPolicy"]
    assert "scaling bertie-intents" in facts["made"]
    policy = dict(desk.cloud.calls())["PutScalingPolicy"]
    assert policy["ResourceId"] == resource("intents") == "endpoint/intents/variant/AllTraffic"
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 500
    assert tracking["PredefinedMetricSpecification"]["PredefinedMetricType"].endswith("InvocationsPerInstance")


def test_a_name_that_is_taken_is_left_alone(desk: Desk) -> None:
    desk.deploy()
    before = desk.cloud.operations()
    with pytest.raises(NameTaken) as raised:
        desk.deploy()
    assert "--update" in raised.value.hint
    assert desk.cloud.operations() == before


def test_an_update_is_blue_green_with_an_alarm_that_undoes_it(desk: Desk) -> None:
    desk.deploy()
    desk.cloud.states(update=[{"EndpointStatus": "Updating"}, {"EndpointStatus": "InService"}])
    facts = desk.deploy(container={"instance_count": 2}, update=True, traffic="linear", rollback_alarms="mine")
    # The model is the same, and AWS says that there is one.
    assert changes(desk.cloud)[3:] == ["CreateModel", "CreateEndpointConfig", "PutMetricAlarm", "UpdateEndpoint"]
    assert not [made for made in facts["made"] if made.startswith("model")]
    update = sent(desk.cloud, "UpdateEndpoint")
    assert update["EndpointConfigName"] == facts["configuration"]
    rolled = update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [alarm["AlarmName"] for alarm in rolled] == [alarm_name("intents"), "mine"]
    routing = update["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["Type"] == "LINEAR"
    assert "RetainAllVariantProperties" not in update
    alarm = desk.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"][0]
    assert (alarm["MetricName"], alarm["Threshold"]) == ("Invocation5XXErrors", 5.0)


def test_an_update_keeps_the_number_that_scaling_has_set(desk: Desk) -> None:
    desk.deploy(max_instances=4)
    desk.deploy(container={"environment": "A=1"}, max_instances=4, update=True)
    assert sent(desk.cloud, "UpdateEndpoint")["RetainAllVariantProperties"] is True


def test_one_machine_has_no_canary(desk: Desk) -> None:
    desk.deploy()
    desk.deploy(container={"environment": "A=1"}, update=True, traffic="canary")
    policy = sent(desk.cloud, "UpdateEndpoint")["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert policy["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"


def test_an_update_that_was_undone_is_no_success(desk: Desk) -> None:
    old = desk.deploy()["configuration"]
    undone = {"EndpointStatus": "InService", "EndpointConfigName": old, "FailureReason": "alarm bertie-intents-errors"}
    desk.cloud.states(update=[{"EndpointStatus": "Updating"}, {"EndpointStatus": "RollingBack"}, undone])
    with pytest.raises(DeployError, match=r"undone.*alarm bertie-intents-errors"):
        desk.deploy(container={"environment": "A=1"}, update=True)


def test_what_cannot_be_updated(desk: Desk) -> None:
    with pytest.raises(ResourceMissing, match="no endpoint"):
        desk.deploy(update=True)
    desk.cloud.states(endpoint=[{"EndpointStatus": "InService"}, {"EndpointStatus": "Updating"}])
    desk.deploy()
    with pytest.raises(DeployError, match="is Updating"):
        desk.deploy(update=True)


def test_machines_do_not_become_serverless(desk: Desk) -> None:
    desk.deploy()
    with pytest.raises(DeployError, match="serverless"):
        desk.deploy(serverless=True, update=True)
    desk.remove(everything=True)
    desk.deploy(serverless=True)
    desk.deploy(serverless=True, container={"environment": "A=1"}, update=True)
    assert "DeploymentConfig" not in sent(desk.cloud, "UpdateEndpoint")


def test_a_model_joins_those_of_an_endpoint(desk: Desk, tmp_path: Path) -> None:
    desk.deploy(multi_model=True)
    shutil.copytree(desk.bundle, tmp_path / "another")
    facts = desk.deploy(tmp_path / "another", multi_model=True, update=True)
    assert "UpdateEndpoint" not in desk.cloud.operations()
    assert facts["artifacts"][0]["uri"].endswith("/another.tar.gz")


def test_a_dry_run_shows_all_requests_in_order_and_sends_none(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    facts = desk.deploy(dry=True, max_instances=2, container={"environment": "HF_TOKEN=hf_9"})
    shown = [request["operation"] for request in facts["requests"]]
    real = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "RegisterScalableTarget", "PutScalingPolicy"]
    assert [operation for operation in shown if operation not in UPLOADS] == [*real, "InvokeEndpoint"]
    queued = desk.deploy(dry=True, asynchronous=True, output="s3://answers/x")["requests"]
    assert [request["operation"] for request in queued][-2:] == ["PutObject", "InvokeEndpointAsync"]
    assert "hf_9" not in json.dumps(facts)
    assert desk.cloud.asked() == []


@pytest.mark.parametrize(
    ("operation", "code", "message", "kind"),
    [
        ("CreateModel", "ValidationException", "Could not assume role arn:aws:iam::1:role/x.", ResourceMissing),
        ("CreateEndpointConfig", "AccessDeniedException", "not authorized", AccessDenied),
        ("CreateEndpoint", "ResourceLimitExceeded", "limit 'ml.c7i.xlarge for endpoint usage' is 0", QuotaExceeded),
    ],
)
def test_each_failure_lists_what_it_leaves(
    desk: Desk, operation: str, code: str, message: str, kind: type[DeployError]
) -> None:
    desk.cloud.fail([{"operation": operation, "code": code, "message": message}])
    with pytest.raises(kind, match=message.split("(", maxsplit=1)[0][:20]) as raised:
        desk.deploy()
    hint = raised.value.hint
    assert "aws s3 rm" in hint
    assert ("delete-model" in hint) == (operation != "CreateModel")
    assert ("delete-endpoint-config" in hint) == (operation == "CreateEndpoint")
    assert "sagemaker-delete" not in hint
    desk.remove(everything=True)
    assert desk.cloud.nothing_left()


def test_the_same_command_again_after_a_failure_finds_what_is_there(desk: Desk) -> None:
    desk.cloud.fail([{"operation": "CreateEndpoint", "code": "ResourceLimitExceeded", "message": "limit"}])
    with pytest.raises(QuotaExceeded):
        desk.deploy()
    facts = desk.deploy()
    assert facts["made"] == ["endpoint intents"]


def test_an_answer_with_another_label_is_no_success(desk: Desk) -> None:
    desk.cloud.reset()
    desk.cloud.answers(json.dumps({"label": "something else"}))
    with pytest.raises(DeployError, match="label") as raised:
        desk.deploy()
    assert "sagemaker-delete intents" in raised.value.hint


def test_an_answer_that_is_no_json(desk: Desk) -> None:
    desk.cloud.reset()
    desk.cloud.answers("<html>")
    with pytest.raises(DeployError, match="not in JSON"):
        desk.deploy()


def test_a_container_that_fails_to_answer(desk: Desk) -> None:
    desk.cloud.fail([{"operation": "InvokeEndpoint", "code": "ModelError", "status": 424, "message": "Received 500"}])
    with pytest.raises(DeployError, match="Received 500") as raised:
        desk.deploy()
    assert "sagemaker-logs" in raised.value.hint


def test_ctrl_c_while_waiting_says_what_goes_on(desk: Desk) -> None:
    desk.cloud.states(endpoint=[{"EndpointStatus": "Creating"}])

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as raised:
        desk.deploy(max_instances=3, clock=Clock(sleep=interrupted))
    removed = f"sagemaker-delete intents --region {REGION} --all"
    for told in ("goes on being made", "not set yet", "sagemaker-status intents", removed):
        assert told in raised.value.hint


def test_ctrl_c_while_removing_says_what_is_gone_and_what_stays(desk: Desk) -> None:
    desk.cloud.states(endpoint=[{"EndpointStatus": "Creating"}] * 9)
    desk.deploy(container={"wait": False})

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as raised:
        remove("intents", AwsSettings.load({}, environment={}), QUIET, clock=Clock(sleep=interrupted))
    assert "removed: nothing" in raised.value.hint
    assert f"stays, and may cost money: bertie deploy sagemaker-delete intents --region {REGION}" in raised.value.hint


def test_what_may_not_be_removed_says_what_is_gone_already(desk: Desk) -> None:
    desk.deploy()
    code = {"code": "AccessDeniedException", "status": 400, "message": "not authorized to perform: DeleteEndpoint"}
    desk.cloud.fail([{"operation": "DeleteEndpoint", **code}])
    with pytest.raises(AccessDenied) as raised:
        desk.remove()
    assert "the rest stays, and may cost money" in raised.value.hint


def test_an_answer_that_is_lost_is_no_other_endpoint(desk: Desk) -> None:
    desk.cloud.fail([{"operation": "CreateEndpoint", "code": "", "lose": True}])
    facts = desk.deploy()
    assert changes(desk.cloud) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "CreateEndpoint"]
    assert "endpoint intents" in facts["made"]
    assert "answer" in facts


def interrupted(seconds: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("clock", [Clock(sleep=interrupted), QUICK])
def test_an_update_that_nobody_waits_for_any_more_is_not_to_be_removed(desk: Desk, clock: Clock) -> None:
    desk.deploy()
    desk.cloud.states(update=[{"EndpointStatus": "Updating"}])
    with pytest.raises((Interrupted, DeployError)) as raised:
        desk.deploy(
            container={"environment": "A=1", "wait_minutes": 0.001},
            update=True,
            clock=clock,
            bake_seconds=0,
            max_instances=3,
        )
    assert "the old model answers until it is done" in raised.value.hint
    assert "sagemaker-status intents" in raised.value.hint
    assert "delete" not in raised.value.hint


def test_a_failed_trial_of_an_update_leaves_what_answers_alone(desk: Desk) -> None:
    desk.deploy()
    fault = {"operation": "InvokeEndpoint", "code": "ModelError", "status": 424, "message": "Received 500", "times": 9}
    desk.cloud.fail([fault])
    with pytest.raises(DeployError, match="Received 500") as raised:
        desk.deploy(container={"environment": "A=1"}, update=True)
    assert "delete" not in raised.value.hint


def test_the_key_is_for_disks_that_take_one(desk: Desk) -> None:
    desk.deploy(
        aws={"kms_key": "alias/k"}, container={"instance_type": "ml.c5d.xlarge"}, capture="s3://there/kept", dry=True
    )
    for kind, takes in (("ml.c5.xlarge", True), ("ml.c5d.xlarge", False), (None, True)):
        plan = Plan(
            "n",
            "role",
            IMAGE,
            "bertie",
            "s3://b/m",
            AwsSettings(kms_key="alias/k"),
            ContainerSettings(instance_type=kind),
            HostingSettings(capture="s3://there/kept"),
        )
        configuration = plan.configuration("m")
        assert ("KmsKeyId" in configuration) == takes
        assert configuration["DataCaptureConfig"]["KmsKeyId"] == "alias/k"


def test_a_replacement_by_steps_is_waited_for(desk: Desk) -> None:
    def minutes(traffic: str, count: int) -> float:
        container = ContainerSettings(instance_type="ml.c5.xlarge", instance_count=count)
        hosting = HostingSettings.load({"traffic": traffic, "bake_seconds": 300}, environment={})
        return Plan("n", "r", IMAGE, "bertie", "s3://b/m", AwsSettings(), container, hosting).replaced_within()

    assert [minutes("linear", 4), minutes("canary", 4), minutes("linear", 1), minutes("all", 4)] == [55, 15, 10, 10]


def test_waiting_ends(desk: Desk) -> None:
    desk.cloud.states(endpoint=[{"EndpointStatus": "Creating"}])
    with pytest.raises(DeployError, match="still Creating"):
        desk.deploy(container={"wait_minutes": 0.001})


def test_without_waiting_nothing_is_asked(desk: Desk) -> None:
    assert "answer" not in desk.deploy(container={"wait": False})
    assert "InvokeEndpoint" not in desk.cloud.asked()
    with pytest.raises(UsageError, match="scaling"):
        desk.deploy(container={"wait": False}, max_instances=3)


def test_an_image_in_another_region(desk: Desk) -> None:
    with pytest.raises(UsageError, match="us-east-1"):
        desk.deploy(container={"image": IMAGE.replace(REGION, "us-east-1")})
    assert desk.cloud.operations() == []


def test_delete_all_leaves_nothing_and_can_be_repeated(desk: Desk) -> None:
    desk.deploy(max_instances=3)
    desk.deploy(container={"environment": "A=1"}, max_instances=3, update=True)
    desk.cloud.client("logs").create_log_group(logGroupName="/aws/sagemaker/Endpoints/intents")
    shown = desk.remove(everything=True, dry=True)
    assert not desk.cloud.nothing_left()
    facts = desk.remove(everything=True, logs=True)
    assert facts["removed"][: len(shown["removed"])] == shown["removed"]
    order = [request["operation"] for request in shown["requests"]]
    assert order[:4] == ["DeleteScalingPolicy", "DeregisterScalableTarget", "DeleteEndpoint", "DeleteAlarms"]
    assert order[4:] == ["DeleteEndpointConfig"] * 2 + ["DeleteModel"] * 2 + ["DeleteObjects"]
    assert desk.cloud.nothing_left()
    assert not desk.cloud.client("logs").describe_log_groups()["logGroups"]
    assert not desk.cloud.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert desk.remove(everything=True, logs=True)["removed"] == []


def test_delete_all_stops_the_names_jobs_and_waits_for_their_end(desk: Desk) -> None:
    desk.cloud.states(
        training=[{"TrainingJobStatus": "InProgress"}, {"TrainingJobStatus": "InProgress"}],
        transform=[{"TransformJobStatus": "InProgress"}],
    )
    client = desk.cloud.client("sagemaker")
    for name, tag in (("intents-1", "intents"), ("intents-2", "somebody-else")):
        output = {"S3OutputPath": "s3://answers/intents"}
        client.create_training_job(
            TrainingJobName=name,
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{ROLE}",
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            OutputDataConfig=output,
            ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            StoppingCondition={"MaxRuntimeInSeconds": 3600},
            Tags=tags(tag),
        )
        client.create_transform_job(
            TransformJobName=name,
            ModelName=name,
            TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://answers/in"}}},
            TransformOutput=output,
            TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
            Tags=tags(tag),
        )
    shown = desk.remove(everything=True, dry=True)["requests"]
    assert [one["operation"] for one in shown] == ["StopTrainingJob", "StopTransformJob"]
    assert desk.remove()["removed"] == [], "without --all jobs go on"
    assert desk.remove(everything=True)["removed"] == ["training job intents-1", "batch job intents-1"]
    for kind, called in (("training", "Training"), ("transform", "Transform")):
        for name, status in (("intents-1", "Stopped"), ("intents-2", "InProgress")):
            found = getattr(client, f"describe_{kind}_job")(**{f"{called}JobName": name})
            assert found[f"{called}JobStatus"] == status
    assert desk.remove(everything=True)["removed"] == []


def test_delete_alone_keeps_what_costs_nothing(desk: Desk) -> None:
    desk.deploy()
    assert desk.remove()["removed"] == ["endpoint intents"]
    assert not desk.cloud.nothing_left()


def test_delete_goes_on_without_what_may_not_be_seen(desk: Desk) -> None:
    desk.deploy(max_instances=3)
    denied = {"code": "AccessDeniedException", "message": "not authorized", "times": 9}
    desk.cloud.fail([{"operation": name, **denied} for name in ("DescribeScalingPolicies", "ListObjectsV2")])
    assert "endpoint intents" in desk.remove(everything=True)["removed"]


def test_delete_tells_of_files_that_stay(desk: Desk) -> None:
    desk.deploy()
    error = "<Error><Key>k</Key><Code>AccessDenied</Code><Message>locked</Message></Error>"
    body = f"<DeleteResult>{error}</DeleteResult>"
    desk.cloud.fail([{"operation": "DeleteObjects", "status": 200, "body": body, "code": ""}])
    with pytest.raises(DeployError, match="locked"):
        desk.remove(everything=True)


def test_delete_touches_nothing_of_others(desk: Desk) -> None:
    desk.deploy()
    desk.deploy(name="intents-2")
    sagemaker = desk.cloud.client("sagemaker")
    role = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    sagemaker.create_model(ModelName="intents-theirs", ExecutionRoleArn=role, PrimaryContainer={"Image": "x"})
    desk.remove(everything=True)
    assert [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]] == ["intents-2"]
    names = [one["ModelName"] for one in sagemaker.list_models()["Models"]]
    assert "intents-theirs" in names
    assert len(names) == 2
    keys = [one["Key"] for one in desk.cloud.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert all(key.startswith("bertie/intents-2/") for key in keys)


def test_an_endpoint_that_somebody_else_made_is_left_alone(desk: Desk) -> None:
    sagemaker = desk.cloud.client("sagemaker")
    desk.deploy(name="other")
    configuration = sagemaker.list_endpoint_configs()["EndpointConfigs"][0]["EndpointConfigName"]
    sagemaker.create_endpoint(EndpointName="intents", EndpointConfigName=configuration)
    with pytest.raises(DeployError, match="not made by bertie"):
        desk.deploy(update=True)
    with pytest.raises(DeployError, match="not made by bertie"):
        desk.remove(everything=True)


def test_delete_waits_for_an_endpoint_that_is_being_made(desk: Desk) -> None:
    making = [{"EndpointStatus": "InService"}] + [{"EndpointStatus": "Creating"}] * 3 + [{"EndpointStatus": "Failed"}]
    desk.cloud.states(endpoint=making)
    desk.deploy()
    desk.remove()
    asked = desk.cloud.asked()
    assert asked[asked.index("InvokeEndpoint") :].count("DescribeEndpoint") == 4
    assert not desk.cloud.client("sagemaker").list_endpoints()["Endpoints"]
