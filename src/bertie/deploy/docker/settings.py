"""Settings of `bertie deploy docker`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from bertie.settings import Settings


class DockerSettings(Settings):
    """How an image is made."""

    command: ClassVar[str] = "deploy docker"

    tag: str = Field(
        "", description="Name of the image; the model's name and the first 12 digits of its digest if not given."
    )
    base_image: str = Field(
        "python:3.12-slim", pattern=r"^\S+$", description="Image to start from; it needs Python 3.11 or newer, and pip."
    )
    platform: str = Field(
        "",
        pattern=r"^([a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?)?(,[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?)*$",
        description="Platforms with commas between, such as linux/amd64,linux/arm64; this machine's if not given.",
    )
    with_training: bool = Field(False, description="Put PyTorch in, so that the image trains as well: larger, as root.")
    bake: bool = Field(True, description="Copy the bundle into the image; if not, it is mounted at /opt/ml/model.")
    extras: str = Field("", description="Further extras of bertie with commas between: grpc, otel.")
    engine: Literal["auto", "docker", "podman", "buildah", "none"] = Field(
        "auto", description="What builds the image: the first of them that works here (auto), or nothing (none)."
    )
