"""The archive that SageMaker unpacks into /opt/ml/model, and its trial on this machine before it is uploaded.

For an image with `bertie` in it an archive holds a bundle. For AWS's Hugging Face image it holds the checkpoint, and
in `code/` a program, its settings, and a copy of the modules that it shares with `bertie serve`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.probe import Probe
from bertie.bundle.read import opened, verify
from bertie.bundle.write import CARD
from bertie.config import ServeSettings
from bertie.deploy.sagemaker.images import Kind
from bertie.deploy.sagemaker.rehearsal import from_program, from_server
from bertie.disk import sha256, unwritten
from bertie.errors import BundleDamaged, DeployError
from bertie.runtime.engine import pick
from bertie.tokens import Text

PACKAGE = Path(__file__).parents[2]
SHARED = (
    "errors.py",
    "cut.py",
    "scores.py",
    "tokens.py",
    "serve/wire/exchange.py",
    "serve/wire/attributes.py",
    "serve/wire/invocations.py",
)
"""Modules that go into an artifact for AWS's image; they need numpy and tokenizers, which come with transformers."""

EMPTY = ("__init__.py", "serve/__init__.py", "serve/wire/__init__.py")
CHECKPOINT = ("config.json", "model.safetensors", "tokenizer.json")
"""What a checkpoint has at least."""

LARGEST = 8 * 1024**3
"""Bytes that an artifact may unpack to."""

Files = dict[str, Path | bytes]
"""What an archive holds, by name."""


@dataclass(frozen=True)
class Artifact:
    """A finished archive."""

    path: Path
    sha256: str
    bytes: int


def write_artifact(model: Path, out: Path, kind: Kind) -> Artifact:
    """Write a model's archive, whole or not at all; the same model always gives the same bytes.

    Raises BundleError, DeployError for a bundle without a checkpoint where that is needed, OutputError.
    """
    with opened(model) as folder:
        manifest = Manifest.from_file(folder / FILE)
        verify(folder, manifest.files)
        if kind == "huggingface":
            files = _with_program(model, folder, manifest)
        else:
            # What else lies there, such as a checkpoint, would only make the archive larger.
            names = (name for name in (FILE, CARD, *manifest.files) if (folder / name).is_file())
            files = {name: folder / name for name in names}
        _pack(files, out)
    return Artifact(out, sha256(out), out.stat().st_size)


def _with_program(model: Path, bundle: Path, manifest: Manifest) -> Files:
    """Return the files for AWS's Hugging Face image."""
    checkpoint = model / "checkpoint"
    lacking = [name for name in CHECKPOINT if not (checkpoint / name).is_file()]
    if lacking:
        raise DeployError(
            f"AWS's Hugging Face image runs a checkpoint, and {model} has none: {lacking[0]} is not in {checkpoint}.",
            expected="the run that a bundle is from",
            hint="give the run; or take --image with an image of your own, which bertie deploy docker MODEL builds",
        )
    files: Files = {path.name: path for path in checkpoint.iterdir() if path.is_file()}
    files |= {f"code/bertie/{name}": PACKAGE / name for name in SHARED}
    files |= {f"code/bertie/{name}": b'"""What bertie serves with."""\n' for name in EMPTY}
    files["code/inference.py"] = Path(__file__).with_name("inference.py")
    files["code/bertie.json"] = (json.dumps(_settings(manifest), indent=2, ensure_ascii=False) + "\n").encode()
    files["code/probe.json"] = bundle / manifest.probe
    return files


def _settings(manifest: Manifest) -> dict[str, Any]:
    """Return what the program has to know, which is in the manifest of a bundle."""
    serve = ServeSettings()
    return {
        "name": f"{serve.name}@{manifest.digest(manifest.variant())[:12]}",
        "task": manifest.task,
        "labels": manifest.labels,
        "pairs": manifest.input.pairs,
        "limits": asdict(manifest.limits),
        "pad_id": manifest.input.pad_id,
        "temperature": manifest.temperature,
        "thresholds": manifest.thresholds,
        "max_texts": serve.max_texts,
        "max_characters": serve.max_characters,
    }


def _pack(files: Files, out: Path) -> None:
    part = out.with_name(f".{out.name}.part")
    try:
        with (
            part.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for name, content in sorted(files.items()):
                _add(archive, name, content)
        part.replace(out)
    except OSError as error:
        raise unwritten(out, error) from error
    finally:
        part.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    """Add a file without what would differ between two archives of the same files: times, owners, links."""
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as file:
        member.size = os.fstat(file.fileno()).st_size
        archive.addfile(member, file)


def verify_artifact(artifact: Artifact, kind: Kind) -> dict[str, Any]:
    """Start what serves the archive on SageMaker, here, and ask it the bundle's probe.

    Returns how many texts were asked, and how far the greatest difference of a probability is. Raises BundleDamaged for
    an archive that is not the one that was written, ProbeFailed for another answer, DeployError where none came.
    """
    if artifact.path.stat().st_size != artifact.bytes or sha256(artifact.path) != artifact.sha256:
        raise BundleDamaged(f"{artifact.path} is not the file that was written.", hint="pack the model again")
    with _unpacked(artifact.path) as folder:
        probe, labels = _probe(folder, kind)
        given = [_json(text) for text in probe.texts]
        answers = from_program(folder, given) if kind == "huggingface" else from_server(folder, given)
    found = np.array([[answer["scores"][label] for label in labels] for answer in answers])
    return {"texts": len(given), "max_difference": probe.check(lambda _: found)}


def _json(text: Text) -> Any:
    return text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}


def _probe(folder: Path, kind: Kind) -> tuple[Probe, tuple[str, ...]]:
    if kind == "huggingface":
        settings = json.loads((folder / "code" / "bertie.json").read_text(encoding="utf-8"))
        return Probe.from_file(folder / "code" / "probe.json"), tuple(settings["labels"])
    manifest = Manifest.from_file(folder / FILE)
    answering = pick(manifest, None)[0]
    return Probe.from_file(folder / (answering.probe or manifest.probe)), manifest.labels


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """Give a folder with an archive's files, as SageMaker does."""
    folder = Path(tempfile.mkdtemp(prefix="bertie-"))
    try:
        with tarfile.open(archive, "r:gz") as tar:
            if sum(member.size for member in tar) > LARGEST:
                raise BundleDamaged(f"{archive} would unpack to more than {LARGEST >> 30} GiB.")
            tar.extractall(folder, filter="data")
        yield folder
    except (tarfile.TarError, EOFError) as error:
        raise BundleDamaged(f"{archive} cannot be unpacked: {error}.", hint="pack the model again") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
