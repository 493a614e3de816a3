"""The settings of hosting: the container and its machines, and the endpoint around them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bertie.deploy.aws.settings import Pairs, pairs
from bertie.deploy.sagemaker.images import HUGGINGFACE
from bertie.settings import Settings

MOST_NAME = 50
"""Characters of a name; SageMaker takes 63, and models and configurations get a suffix."""
S3_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$"


class ContainerSettings(Settings):
    """What runs, and on which machines: for endpoints and for batch jobs."""

    command: ClassVar[str] = "deploy sagemaker"

    instance_type: str | None = Field(None, description="Instance type, such as ml.c7i.xlarge.")
    instance_count: int = Field(1, ge=1, description="How many of them.")
    image: str = Field(
        HUGGINGFACE,
        description="Address of your own image (bertie deploy docker builds one), or 'huggingface' for AWS's.",
    )
    environment: Pairs = Field("", description="Variables for the container, KEY=VALUE, separated by commas.")
    network_isolation: bool = Field(False, description="Cut the container off from every network, S3 included.")
    verify: bool = Field(
        True, description="Start the same server on the artifact here and compare its answers, before the upload."
    )
    wait: bool = Field(True, description="Wait until it is ready and try it.")
    wait_minutes: float = Field(60, gt=0, description="How long to wait; it goes on without us after that.")

    def variables(self) -> dict[str, str]:
        """Return the user's variables."""
        return pairs(self.environment)


class HostingSettings(Settings):
    """The endpoint: its kind, its scaling, its limits and how it is replaced."""

    command: ClassVar[str] = "deploy sagemaker"

    name: str | None = Field(
        None,
        max_length=MOST_NAME,
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
        description="Name of the endpoint; made from the model's if not given.",
    )
    serverless: bool = Field(False, description="No machines of your own: paid by request. CPU only, up to 6 GB.")
    memory_mb: int = Field(3072, ge=1024, le=6144, multiple_of=1024, description="Memory of a serverless endpoint.")
    provisioned: int = Field(
        0, ge=0, le=200, description="Serverless: how many stand ready all the time, paid for while they wait."
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Requests at a time: serverless, of the endpoint (at most 200); asynchronous, of an instance.",
    )
    asynchronous: bool = Field(False, description="Requests wait in a queue, and answers go to S3 (--output).")
    output: str | None = Field(None, pattern=S3_URI, description="Asynchronous: where answers go, s3://BUCKET/PREFIX.")
    success_topic: str | None = Field(None, description="Asynchronous: ARN of the SNS topic told of each answer.")
    error_topic: str | None = Field(None, description="Asynchronous: ARN of the SNS topic told of each failure.")
    multi_model: bool = Field(False, description="Many models on one endpoint, loaded when they are asked for.")
    min_instances: int | None = Field(None, ge=0, description="Scale down to this; 0 for asynchronous endpoints only.")
    max_instances: int | None = Field(None, ge=1, description="Scale up to this. Switches scaling on.")
    target_rate: float | None = Field(
        None,
        gt=0,
        description="Scaling keeps each instance near this many requests a minute, 1000 if not given; asynchronous: "
        "near this many that wait, 5 if not given.",
    )
    scale_in_seconds: int = Field(300, ge=0, description="Least time between two steps down.")
    scale_out_seconds: int = Field(60, ge=0, description="Least time between two steps up.")
    start_seconds: int | None = Field(
        None, ge=60, le=3600, description="Time until the container must answer /ping (SageMaker's default: 480)."
    )
    download_seconds: int | None = Field(None, ge=60, le=3600, description="Time for the download of the model.")
    capture: str | None = Field(None, pattern=S3_URI, description="Keep requests and answers in s3://BUCKET/PREFIX.")
    capture_percent: int = Field(100, ge=0, le=100, description="Share of the requests that is kept.")
    ami: str | None = Field(None, description="InferenceAmiVersion, which images with a new CUDA need.")
    traffic: Literal["all", "canary", "linear"] = Field(
        "canary", description="Update: how requests move to the new machines: at once, a tenth first, or by tenths."
    )
    bake_seconds: int = Field(300, ge=0, le=3600, description="Update: time between the steps, in which alarms count.")
    rollback_errors: int = Field(
        5, ge=0, description="Update: undo it at more than this many server errors a minute; an alarm is made for it."
    )
    rollback_alarms: str = Field("", description="Update: further alarms that undo it, separated by commas.")


class TransformSettings(Settings):
    """A batch transform job."""

    command: ClassVar[str] = "deploy sagemaker-batch"

    payload_mb: int = Field(6, ge=1, le=100, description="Largest request; lines are put together up to it.")
    at_a_time: int = Field(1, ge=1, description="Requests that an instance is given at a time.")
    join: bool = Field(False, description="Write each input record beside its answer (JSON objects only).")
