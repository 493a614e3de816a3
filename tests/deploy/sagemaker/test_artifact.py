from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from bertie.deploy.sagemaker.artifact import Artifact, verify_artifact, write_artifact
from bertie.deploy.sagemaker.images import Kind
from bertie.errors import BundleDamaged, DeployError, OutputError, ProbeFailed

KINDS: tuple[Kind, ...] = ("bertie", "huggingface")


def changed(artifact: Artifact, out: Path, name: str, content: bytes) -> Artifact:
    """Return an artifact in which one file is another, and which says so itself."""
    from bertie.disk import sha256

    folder = out.with_suffix(".files")
    with tarfile.open(artifact.path) as tar:
        tar.extractall(folder, filter="data")
    (folder / name).write_bytes(content)
    with tarfile.open(out, "w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return Artifact(out, sha256(out), out.stat().st_size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_model_gives_the_same_bytes(tiny_run: Path, tmp_path: Path, kind: Kind) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    first, second = (write_artifact(run, tmp_path / f"{run.name}.tar.gz", kind) for run in (tiny_run, copy))
    assert (first.sha256, first.bytes) == (second.sha256, second.bytes)
    with tarfile.open(first.path) as tar:
        members = tar.getmembers()
    assert all(member.isfile() and member.mtime == 0 and member.uid == 0 and not member.uname for member in members)
    assert [member.name for member in members] == sorted(member.name for member in members)


def test_each_kind_has_what_its_container_reads(tiny_run: Path, tmp_path: Path) -> None:
    names = {}
    for kind in KINDS:
        with tarfile.open(write_artifact(tiny_run, tmp_path / kind, kind).path) as tar:
            names[kind] = set(tar.getnames())
    assert {"manifest.json", "model.onnx", "tokenizer.json"} <= names["bertie"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "code/inference.py"} <= names["huggingface"]
    assert "code/requirements.txt" not in names["huggingface"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_answers_its_probe_before_it_is_uploaded(tiny_run: Path, tmp_path: Path, kind: Kind) -> None:
    found = verify_artifact(write_artifact(tiny_run, tmp_path / "model.tar.gz", kind), kind)
    assert found["texts"] == 8
    assert found["max_difference"] < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changed_since_is_refused(tiny_run: Path, tmp_path: Path, kind: Kind) -> None:
    artifact = write_artifact(tiny_run, tmp_path / "model.tar.gz", kind)
    damaged = bytearray(artifact.path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    artifact.path.write_bytes(damaged)
    with pytest.raises(BundleDamaged, match="not the file that was written"):
        verify_artifact(artifact, kind)


@pytest.mark.slow
def test_a_program_that_answers_otherwise_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    artifact = write_artifact(tiny_run, tmp_path / "model.tar.gz", "huggingface")
    with tarfile.open(artifact.path) as tar:
        file = tar.extractfile("code/bertie.json")
        assert file is not None
        settings = json.load(file)
    settings["temperature"] *= 8
    other = changed(artifact, tmp_path / "other.tar.gz", "code/bertie.json", json.dumps(settings).encode())
    with pytest.raises(ProbeFailed, match="off by"):
        verify_artifact(other, "huggingface")


@pytest.mark.slow
def test_a_program_that_does_not_run_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    artifact = write_artifact(tiny_run, tmp_path / "model.tar.gz", "huggingface")
    other = changed(artifact, tmp_path / "other.tar.gz", "code/inference.py", b"def model_fn(:\n")
    with pytest.raises(DeployError, match="SyntaxError"):
        verify_artifact(other, "huggingface")


def test_a_bundle_alone_does_not_run_in_the_hugging_face_image(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="runs a checkpoint") as raised:
        write_artifact(tiny_bundle, tmp_path / "model.tar.gz", "huggingface")
    assert "bertie deploy docker" in raised.value.hint
    assert not list(tmp_path.iterdir())


def test_a_damaged_bundle_is_not_packed(tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    (copy / "bundle" / "model.onnx").write_bytes(b"")
    for kind in KINDS:
        with pytest.raises(BundleDamaged):
            write_artifact(copy, tmp_path / "model.tar.gz", kind)


def test_a_full_disk_leaves_nothing(tiny_run: Path, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(200 * 1024))
    with pytest.raises(OutputError):
        write_artifact(tiny_run, small_disk / "model.tar.gz", "bertie")
    assert [path.name for path in small_disk.iterdir()] == ["other"]
