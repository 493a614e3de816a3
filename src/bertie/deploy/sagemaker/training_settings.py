"""The settings of a training job: its machines, its limits, its image."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bertie.deploy.aws.settings import Pairs, pairs
from bertie.deploy.sagemaker.images import PYTORCH
from bertie.settings import Settings

MOST_NAME = 40
"""Characters of a name; SageMaker takes 63, and each job's name ends in its time."""


class TrainingJobSettings(Settings):
    """The machines of a training job and what it may cost."""

    command: ClassVar[str] = "deploy sagemaker-train"

    name: str | None = Field(
        None,
        max_length=MOST_NAME,
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
        description="Name of what is trained; made from the data's if not given. Each job's name adds its time.",
    )
    instance_type: str | None = Field(None, description="Instance type, such as ml.m5.xlarge or ml.g5.xlarge.")
    instances: int = Field(1, ge=1, description="How many of them; they train one model together.")
    spot: bool = Field(
        False, description="Spare machines, cheaper, which may be taken away; training goes on from its checkpoint."
    )
    image: str = Field(
        PYTORCH,
        description="Address of your own image (bertie deploy docker --with-training builds one), or 'pytorch' for "
        "AWS's, into which bertie is installed when the job starts.",
    )
    volume_gb: int = Field(30, ge=1, le=16384, description="Size of each machine's disk.")
    max_hours: float = Field(24, gt=0, le=672, description="Time after which training is stopped.")
    max_wait_hours: float | None = Field(
        None, gt=0, description="Spot: time with waiting after which it is stopped; twice --max-hours if not given."
    )
    retries: int = Field(2, ge=0, le=30, description="Times that SageMaker starts again after an error of its own.")
    environment: Pairs = Field("", description="Variables for the container, KEY=VALUE, separated by commas.")
    network_isolation: bool = Field(False, description="Cut the container off from every network; own images only.")
    encrypt_traffic: bool = Field(False, description="Encrypt what the machines of one job tell each other.")
    wait: bool = Field(True, description="Follow the job until it ends, and fetch the model.")

    def variables(self) -> dict[str, str]:
        """Return the user's variables."""
        return pairs(self.environment)
