"""The archive that SageMaker unpacks into /opt/ml/model, and its trial on this machine before it is uploaded."""

from __future__ import annotations

import gzip
import json
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.probe import TOLERANCE, Probe
from bertie.bundle.read import opened
from bertie.deploy.sagemaker.images import Kind
from bertie.disk import sha256
from bertie.errors import DeployError, ProbeFailed
from bertie.pipeline.demo import serving


@dataclass(frozen=True)
class Artifact:
    """A finished archive."""

    path: Path
    sha256: str
    bytes: int


def write_artifact(model: Path, out: Path, kind: Kind) -> Artifact:
    """Write a bundle's archive; the same bundle always gives the same bytes. Raises BundleError, DeployError."""
    if kind == "huggingface":
        raise DeployError(
            "archives for AWS's Hugging Face image cannot be written by this version.",
            hint="bertie deploy docker MODEL builds an image of your own; give its address with --image",
        )
    with (
        opened(model) as folder,
        out.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.add(path, path.relative_to(folder).as_posix(), filter=_plain)
    return Artifact(out, sha256(out), out.stat().st_size)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take away what differs between two archives of the same files."""
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def verify_artifact(artifact: Artifact, kind: Kind) -> None:
    """Serve the archive here and ask it the bundle's probe. Raises ProbeFailed if an answer is another one."""
    with opened(artifact.path) as folder:
        manifest = Manifest.from_file(folder / FILE)
        probe = Probe.from_file(folder / manifest.probe)
    given = [text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]} for text in probe.texts]
    with serving(artifact.path) as address:
        request = urllib.request.Request(  # noqa: S310 - the address is the server that we started
            f"{address}/invocations",
            data=json.dumps(given).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answers = json.load(response)
    found = np.array([[answer["scores"][label] for label in manifest.labels] for answer in answers])
    worst = float(np.abs(found - np.array(probe.scores)).max())
    if not worst <= TOLERANCE:
        raise ProbeFailed(
            f"the {kind} artifact does not answer its probe as the bundle did: a probability is off by {worst:.3f}.",
            expected=f"at most {TOLERANCE}",
            hint="bertie evaluate MODEL DATA; or pack the bundle again",
        )
