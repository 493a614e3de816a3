"""The arguments of CreateTrainingJob, and what is refused before it. Pure: nothing is sent here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.instances import Instance, instance
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.tags import tags
from bertie.deploy.container.metrics import definitions
from bertie.deploy.sagemaker.images import PYTORCH
from bertie.deploy.sagemaker.source_folder import START
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings
from bertie.errors import UsageError

CHECKPOINTS = "/opt/ml/checkpoints"
CODE = "code"
"""The channel of the source folder, as the SDK calls it; the program takes it for no data."""
LONGEST_VALUE = 256
"""Characters of a hyperparameter, by AWS's own description of the file that holds them."""
THE_PLATFORMS = {"checkpoints", "keep_at_end"}
"""Training settings that are no hyperparameters: the platform keeps the checkpoints."""


@dataclass(frozen=True)
class Plan:
    """All that a training job is made from."""

    name: str
    job: str
    role: str
    image: str
    channels: Mapping[str, str]
    """Addresses in S3 by the channels' names."""
    output: str
    checkpoints: str
    hyperparameters: Mapping[str, str]
    aws: AwsSettings
    settings: TrainingJobSettings

    def request(self) -> dict[str, Any]:
        """Return the arguments of CreateTrainingJob."""
        settings, aws = self.settings, self.aws
        arguments: dict[str, Any] = {
            "TrainingJobName": self.job,
            "RoleArn": self.role,
            "AlgorithmSpecification": self._algorithm(),
            "HyperParameters": dict(self.hyperparameters),
            "InputDataConfig": [_channel(name, uri) for name, uri in self.channels.items()],
            "OutputDataConfig": {"S3OutputPath": self.output, **({"KmsKeyId": aws.kms_key} if aws.kms_key else {})},
            "CheckpointConfig": {"S3Uri": self.checkpoints, "LocalPath": CHECKPOINTS},
            "ResourceConfig": self._machines(),
            "StoppingCondition": self._stopping(),
            "EnableManagedSpotTraining": settings.spot,
            "Tags": tags(self.name, aws.tag_pairs()),
        }
        if network := aws.network():
            arguments["VpcConfig"] = network
        if variables := settings.variables():
            arguments["Environment"] = variables
        if settings.retries:
            arguments["RetryStrategy"] = {"MaximumRetryAttempts": settings.retries}
        if settings.network_isolation:
            arguments["EnableNetworkIsolation"] = True
        if settings.encrypt_traffic:
            arguments["EnableInterContainerTrafficEncryption"] = True
        return arguments

    def _machines(self) -> dict[str, Any]:
        settings = self.settings
        machines: dict[str, Any] = {"InstanceType": settings.instance_type, "InstanceCount": settings.instances}
        machines["VolumeSizeInGB"] = settings.volume_gb
        if self.aws.kms_key and instance(str(settings.instance_type)).takes_key:
            machines["VolumeKmsKeyId"] = self.aws.kms_key
        return machines

    def _algorithm(self) -> dict[str, Any]:
        algorithm = {"TrainingImage": self.image, "TrainingInputMode": "File", "MetricDefinitions": definitions()}
        if CODE in self.channels:
            algorithm["ContainerEntrypoint"] = ["/bin/bash"]
            algorithm["ContainerArguments"] = ["-c", f"cd /opt/ml/input/data/{CODE} && {START}"]
        return algorithm

    def _stopping(self) -> dict[str, int]:
        settings = self.settings
        run = math.ceil(settings.max_hours * 3600)
        if not settings.spot:
            return {"MaxRuntimeInSeconds": run}
        wait = 2 * run if settings.max_wait_hours is None else math.ceil(settings.max_wait_hours * 3600)
        return {"MaxRuntimeInSeconds": run, "MaxWaitTimeInSeconds": wait}


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def machine(settings: TrainingJobSettings, aws: AwsSettings) -> Instance:
    """Return the instance type, and see that everything goes together. Raises UsageError that says what does not."""
    if settings.instance_type is None:
        raise UsageError("no instance type is given.", expected="--instance-type ml.FAMILY.SIZE, such as ml.g5.xlarge")
    found = instance(settings.instance_type)
    if found.kind in {"neuron", "other", "arm"}:
        part = "ARM processors" if found.kind == "arm" else "an accelerator that PyTorch's usual builds do not know"
        raise UsageError(f"{found.name!r} has {part}.", hint="take ml.m5, ml.c5, ml.g5 or ml.g6")
    if bool(aws.subnets) != bool(aws.security_groups):
        raise UsageError("a VPC needs both --subnets and --security-groups.")
    if settings.network_isolation and settings.image == PYTORCH:
        raise UsageError(
            "AWS's image gets bertie from a package index, which --network-isolation cuts off.",
            hint="give an image that has it, with --image",
        )
    if settings.max_wait_hours is not None and not settings.spot:
        raise UsageError("--max-wait-hours is for --spot alone.")
    if settings.max_wait_hours is not None and settings.max_wait_hours < settings.max_hours:
        raise UsageError(
            f"--max-wait-hours {settings.max_wait_hours:g} is less than --max-hours {settings.max_hours:g}.",
            expected="time for training, and for waiting besides",
        )
    return found


def hyperparameters(data: DataSettings, split: SplitSettings, train: TrainSettings) -> dict[str, str]:
    """Return what differs from the defaults, as strings. Raises UsageError for a value that SageMaker does not take."""
    found = {}
    for table in (data, split, train):
        for name, field in type(table).model_fields.items():
            value = getattr(table, name)
            if value != field.default and name not in THE_PLATFORMS:
                found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    if is_folder(train.base):
        found.pop("base")  # it travels as a channel
    for name, value in found.items():
        if len(value) > LONGEST_VALUE:
            raise UsageError(f"{name} has {len(value)} characters.", expected=f"at most {LONGEST_VALUE} on SageMaker")
    return found


def is_folder(base: str) -> bool:
    """Tell whether a base is a folder here; a name that no file can have is none."""
    with suppress(OSError):
        return Path(base).is_dir()
    return False


def job_name(name: str, now: datetime | None = None) -> str:
    """Return a name for one job, which no other has."""
    return f"{name}-{now or datetime.now(UTC):%Y%m%d-%H%M%S}"
