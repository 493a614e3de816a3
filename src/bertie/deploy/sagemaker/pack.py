"""From a model to the verified artifact that is uploaded: everything that happens on this machine."""

from __future__ import annotations

import tarfile
from pathlib import Path

from bertie.deploy.naming import name_of
from bertie.deploy.sagemaker.artifact import Artifact, verify_artifact, write_artifact
from bertie.deploy.sagemaker.checks import fits_serverless
from bertie.deploy.sagemaker.images import Kind
from bertie.talk import Talk


def pack(model: Path, folder: Path, kind: Kind, talk: Talk, *, verify: bool, memory_mb: int | None = None) -> Artifact:
    """Write a model's artifact into a folder, and verify it by starting the same server on it here.

    `memory_mb` is that of a serverless endpoint, in which it must fit. Raises UsageError, BundleError, DeployError.
    """
    talk.say(f"packing {model}")
    artifact = write_artifact(model, folder / f"{name_of(model)}.tar.gz", kind)
    if memory_mb is not None:
        fits_serverless(unpacked_bytes(artifact.path), kind, memory_mb)
    if verify:
        talk.say("starting the same server on it here, and comparing its answers")
        verify_artifact(artifact, kind)
    return artifact


def unpacked_bytes(archive: Path) -> int:
    """Return how large an archive's files are on disk."""
    with tarfile.open(archive) as members:
        return sum(member.size for member in members)
