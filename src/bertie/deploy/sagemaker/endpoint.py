"""The arguments of each request that makes an endpoint: model, configuration, scaling, alarm, replacement.

Pure: nothing is sent here. The names of models and configurations end in a hash of their content, so that the same
command again finds them, and another one never changes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertie.deploy.aws.instances import instance
from bertie.deploy.aws.settings import AwsSettings, parts
from bertie.deploy.aws.tags import tags
from bertie.deploy.sagemaker.checks import DEFAULT_CONCURRENCY
from bertie.deploy.sagemaker.images import Kind
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings

VARIANT = "AllTraffic"
"""The one variant of our endpoints; SageMaker's own tools call it so."""
SCALED = "sagemaker:variant:DesiredInstanceCount"
A_MINUTE, WAITING = 1000.0, 5.0
"""What scaling keeps each instance near: requests a minute, or of an asynchronous endpoint requests that wait."""
LONGEST_SECONDS = 3600
"""What a request may take in a batch transform, or of an asynchronous endpoint."""
PATIENT = {
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": str(LONGEST_SECONDS),
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": str(LONGEST_SECONDS),
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "100",
}
"""Variables that both AWS's image and ours read, for requests that may be large and take long."""
QUEUED = {"BERTIE_SERVE_QUEUE_SECONDS": str(LONGEST_SECONDS), "BERTIE_SERVE_MAX_TEXTS": str(10**7)}
"""Variables of our image alone, where SageMaker's queue holds requests: one that is refused is one that has failed."""
STEP_PERCENT = 10
"""Part of the instances that a canary or linear update moves at a time. SageMaker takes 1 to 50."""


@dataclass(frozen=True)
class Plan:
    """All that an endpoint is made from."""

    name: str
    role: str
    image: str
    kind: Kind
    data: str
    """Address of the artifact, or of the folder of artifacts for many models."""
    aws: AwsSettings
    container: ContainerSettings
    hosting: HostingSettings

    def model(self) -> dict[str, Any]:
        """Return the arguments of CreateModel."""
        return model_request(
            self.name,
            self.role,
            self.image,
            self.kind,
            self.data,
            self.aws,
            self.container,
            several=self.hosting.multi_model,
            more=self._variables(),
        )

    def _variables(self) -> dict[str, str]:
        if self.hosting.asynchronous:
            return PATIENT | (QUEUED if self.kind == "bertie" else {})
        # AWS's image would start a process with a model of its own for each processor.
        return {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"} if self.hosting.serverless and self.kind == "huggingface" else {}

    def configuration(self, model_name: str) -> dict[str, Any]:
        """Return the arguments of CreateEndpointConfig."""
        arguments: dict[str, Any] = {"ProductionVariants": [self._variant(model_name)]}
        if self.hosting.capture:
            arguments["DataCaptureConfig"] = self._capture(self.hosting.capture)
        if self.hosting.asynchronous:
            arguments["AsyncInferenceConfig"] = self._asynchronous()
        kind = self.container.instance_type
        if self.aws.kms_key and (kind is None or instance(kind).takes_key):
            arguments["KmsKeyId"] = self.aws.kms_key
        arguments["Tags"] = tags(self.name, self.aws.tag_pairs())
        return {"EndpointConfigName": hashed(self.name, arguments), **arguments}

    def endpoint(self, configuration_name: str) -> dict[str, Any]:
        """Return the arguments of CreateEndpoint."""
        pairs = tags(self.name, self.aws.tag_pairs())
        return {"EndpointName": self.name, "EndpointConfigName": configuration_name, "Tags": pairs}

    def update(self, configuration_name: str, *, scaled: bool) -> dict[str, Any]:
        """Return the arguments of UpdateEndpoint. The number of instances that scaling has set is kept."""
        arguments: dict[str, Any] = {"EndpointName": self.name, "EndpointConfigName": configuration_name}
        if scaled:
            arguments["RetainAllVariantProperties"] = True
            arguments["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": "VariantWeight"}]
        if not self.hosting.serverless:  # a serverless one is replaced by SageMaker itself, without steps
            arguments["DeploymentConfig"] = self._replacement()
        return arguments

    def replaced_within(self) -> float:
        """Return the minutes in which requests go over to the new machines by steps, each of which is watched."""
        steps = {"all": 1, "canary": 2, "linear": 100 / STEP_PERCENT}[self._traffic()]
        return (steps + 1) * self.hosting.bake_seconds / 60

    def alarm(self) -> dict[str, Any]:
        """Return the arguments of PutMetricAlarm: more server errors in a minute than an update may cause."""
        return {
            "AlarmName": alarm_name(self.name),
            "AlarmDescription": f"Undoes an update of the endpoint {self.name}",
            "Namespace": "AWS/SageMaker",
            "MetricName": "Invocation5XXErrors",
            "Dimensions": [
                {"Name": "EndpointName", "Value": self.name},
                {"Name": "VariantName", "Value": VARIANT},
            ],
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": float(self.hosting.rollback_errors),
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",  # a minute without requests is no fault
            "Tags": tags(self.name, self.aws.tag_pairs()),
        }

    def scaling(self) -> list[tuple[str, dict[str, Any]]]:
        """Return operations and arguments of application-autoscaling; none without --max-instances."""
        hosting = self.hosting
        if hosting.max_instances is None:
            return []
        register = {**self._scaled(), "MinCapacity": self._least(), "MaxCapacity": hosting.max_instances}
        policy = {
            "PolicyName": policy_name(self.name),
            **self._scaled(),
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": hosting.target_rate or (WAITING if hosting.asynchronous else A_MINUTE),
                "ScaleInCooldown": hosting.scale_in_seconds,
                "ScaleOutCooldown": hosting.scale_out_seconds,
                **self._watched(),
            },
        }
        return [("RegisterScalableTarget", register), ("PutScalingPolicy", policy)]

    def waking(self) -> dict[str, Any] | None:
        """Return the arguments of PutScalingPolicy for the first instance; None where one is always there.

        Of no instance there is no backlog per instance, on which the other policy could act.
        """
        if self.hosting.max_instances is None or self._least() > 0:
            return None
        step = {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}
        return {
            "PolicyName": waking_name(self.name),
            **self._scaled(),
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": "ChangeInCapacity",
                "MetricAggregationType": "Average",
                "Cooldown": self.hosting.scale_out_seconds,
                "StepAdjustments": [step],
            },
        }

    def waking_alarm(self, policy_arn: str) -> dict[str, Any]:
        """Return the arguments of PutMetricAlarm: requests wait and there is no instance, so the policy is to act."""
        return {
            "AlarmName": waking_name(self.name),
            "AlarmDescription": f"Starts the first instance of the endpoint {self.name}",
            "Namespace": "AWS/SageMaker",
            "MetricName": "HasBacklogWithoutCapacity",
            "Dimensions": [{"Name": "EndpointName", "Value": self.name}],
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "missing",
            "AlarmActions": [policy_arn],
            "Tags": tags(self.name, self.aws.tag_pairs()),
        }

    def _least(self) -> int:
        return self.container.instance_count if self.hosting.min_instances is None else self.hosting.min_instances

    def _scaled(self) -> dict[str, Any]:
        return {"ServiceNamespace": "sagemaker", "ResourceId": resource(self.name), "ScalableDimension": SCALED}

    def _watched(self) -> dict[str, Any]:
        if not self.hosting.asynchronous:
            return {"PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}}
        metric = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": self.name}],
            "Statistic": "Average",
        }
        return {"CustomizedMetricSpecification": metric}

    def _variant(self, model_name: str) -> dict[str, Any]:
        hosting = self.hosting
        variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": model_name}
        if hosting.serverless:
            most = hosting.concurrency or DEFAULT_CONCURRENCY
            serverless = {"MemorySizeInMB": hosting.memory_mb, "MaxConcurrency": most}
            if hosting.provisioned:
                serverless["ProvisionedConcurrency"] = hosting.provisioned
            return {**variant, "ServerlessConfig": serverless}
        variant |= {"InitialInstanceCount": self.container.instance_count, "InitialVariantWeight": 1.0}
        variant["InstanceType"] = self.container.instance_type
        more = {
            "ContainerStartupHealthCheckTimeoutInSeconds": hosting.start_seconds,
            "ModelDataDownloadTimeoutInSeconds": hosting.download_seconds,
            "InferenceAmiVersion": hosting.ami,
        }
        return variant | {key: value for key, value in more.items() if value is not None}

    def _capture(self, place: str) -> dict[str, Any]:
        capture: dict[str, Any] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": self.hosting.capture_percent,
            "DestinationS3Uri": place,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json", "application/jsonlines"]},
        }
        return capture | ({"KmsKeyId": self.aws.kms_key} if self.aws.kms_key else {})

    def _asynchronous(self) -> dict[str, Any]:
        hosting = self.hosting
        output: dict[str, Any] = {"S3OutputPath": hosting.output}
        if self.aws.kms_key:
            output["KmsKeyId"] = self.aws.kms_key
        told = {"SuccessTopic": hosting.success_topic, "ErrorTopic": hosting.error_topic}
        if any(told.values()):
            output["NotificationConfig"] = {key: topic for key, topic in told.items() if topic}
        clients = {"MaxConcurrentInvocationsPerInstance": hosting.concurrency} if hosting.concurrency else {}
        return {"OutputConfig": output} | ({"ClientConfig": clients} if clients else {})

    def _traffic(self) -> str:
        """Return how requests go over: one machine has no tenth."""
        return self.hosting.traffic if self.container.instance_count > 1 else "all"

    def _replacement(self) -> dict[str, Any]:
        hosting = self.hosting
        step = {"Type": "CAPACITY_PERCENT", "Value": STEP_PERCENT}
        kinds: dict[str, dict[str, Any]] = {
            "all": {"Type": "ALL_AT_ONCE"},
            "canary": {"Type": "CANARY", "CanarySize": step},
            "linear": {"Type": "LINEAR", "LinearStepSize": step},
        }
        routing = {**kinds[self._traffic()], "WaitIntervalInSeconds": hosting.bake_seconds}
        alarms = [alarm_name(self.name), *parts(hosting.rollback_alarms)]
        return {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": routing,
                "TerminationWaitInSeconds": hosting.bake_seconds,
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm} for alarm in alarms]},
        }


def model_request(
    name: str,
    role: str,
    image: str,
    kind: Kind,
    data: str,
    aws: AwsSettings,
    container: ContainerSettings,
    *,
    several: bool = False,
    more: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the arguments of CreateModel. `more` are variables for the container; the user's go before them."""
    variables = {"SAGEMAKER_PROGRAM": "inference.py"} if kind == "huggingface" else {}
    variables |= more or {}
    primary: dict[str, Any] = {"Image": image, "ModelDataUrl": data, "Environment": variables | container.variables()}
    if several:
        primary["Mode"] = "MultiModel"
    arguments: dict[str, Any] = {"PrimaryContainer": primary, "ExecutionRoleArn": role}
    if network := aws.network():
        arguments["VpcConfig"] = network
    if container.network_isolation:
        arguments["EnableNetworkIsolation"] = True
    arguments["Tags"] = tags(name, aws.tag_pairs())
    return {"ModelName": hashed(name, arguments), **arguments}


def hashed(name: str, arguments: dict[str, Any]) -> str:
    """Return a name with a hash of what it stands for."""
    digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:10]}"


def resource(name: str) -> str:
    """Return what application-autoscaling calls the endpoint's variant."""
    return f"endpoint/{name}/variant/{VARIANT}"


def policy_name(name: str) -> str:
    """Return the name of the endpoint's scaling policy."""
    return f"bertie-{name}"


def alarm_name(name: str) -> str:
    """Return the name of the alarm that undoes an update."""
    return f"bertie-{name}-errors"


def waking_name(name: str) -> str:
    """Return the name of the policy, and of the alarm, that start the first instance."""
    return f"bertie-{name}-waking"


def log_group(name: str) -> str:
    """Return where the endpoint's containers write their lines."""
    return f"/aws/sagemaker/Endpoints/{name}"
