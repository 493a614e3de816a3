"""Which container runs a model, and what it asks of the artifact."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Literal

from bertie.deploy.aws.session import Session
from bertie.errors import UsageError

TABLE = Path(__file__).with_name("images.toml")
HUGGINGFACE = "huggingface"
"""The word that stands for AWS's own Hugging Face image."""
PYTORCH = "pytorch"
"""The word that stands for AWS's own PyTorch image, for training."""

Kind = Literal["bertie", "huggingface"]
"""What an artifact holds: a bundle for our image, or a checkpoint and its program for AWS's."""


def kind_of(image: str) -> Kind:
    """Return the kind of artifact that an image reads. AWS's images are known by their repository's name."""
    return "huggingface" if image == HUGGINGFACE or "/huggingface-" in image else "bertie"


def image_uri(session: Session, image: str, *, gpu: bool) -> str:
    """Return the address of an image: the one given, or AWS's Hugging Face image in the session's region.

    Raises UsageError for what is not an address in a registry.
    """
    if image == HUGGINGFACE:
        return _of_aws(session, "inference", gpu=gpu)
    if not re.fullmatch(r"[\w.-]+(:\d+)?(/[\w.-]+)+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", image):
        raise UsageError(
            f"{image!r} is not the address of an image.",
            expected="ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, or huggingface for AWS's own image",
            hint="bertie deploy docker MODEL builds one; push it to ECR",
        )
    found = re.match(r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.", image)
    if found and found[1] != session.region:
        raise UsageError(
            f"the image is in {found[1]}, and what is to run it is in {session.region}.",
            hint=f"push it to ECR in {session.region}, or take --region {found[1]}",
        )
    return image


def training_image_uri(session: Session, image: str, *, gpu: bool) -> str:
    """Return the address of an image that trains: the one given, or AWS's PyTorch image in the session's region."""
    return _of_aws(session, "training", gpu=gpu) if image == PYTORCH else image_uri(session, image, gpu=gpu)


def _of_aws(session: Session, purpose: Literal["inference", "training"], *, gpu: bool) -> str:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    account = table["accounts"].get(session.region, table["accounts"]["usual"])
    part = table[purpose]
    tag = part["gpu" if gpu else "cpu"]
    return f"{account}.dkr.ecr.{session.region}.{session.domain}/{part['repository']}:{tag}"
