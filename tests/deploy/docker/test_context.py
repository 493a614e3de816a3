from __future__ import annotations

import email
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest

from bertie.bundle.manifest import FILE, Manifest
from bertie.deploy.docker import engine
from bertie.deploy.docker.context import BEGINNING, plan, served
from bertie.deploy.docker.deploy import deploy_docker
from bertie.deploy.docker.dockerfile import Recipe, dockerfile
from bertie.deploy.docker.requirements import pinned
from bertie.deploy.docker.settings import DockerSettings
from bertie.deploy.docker.wheel import write_wheel
from bertie.disk import sha256
from bertie.errors import BundleDamaged, BundleUnusable, DeployError, OutputError, UsageError
from bertie.talk import Talk
from tests.conftest import Bertie, last_json

BUNDLE = Path(__file__).parents[2] / "bundles" / "v2" / "bundle"
QUIET = Talk(quiet=True)


def settings(**flags: Any) -> DockerSettings:
    return DockerSettings.load({"engine": "none"} | flags, environment={})


def test_the_context_holds_the_bundle_the_wheel_and_the_versions(tmp_path: Path) -> None:
    facts = deploy_docker(BUNDLE, tmp_path / "image", settings(), QUIET)
    assert sorted(facts["files"]) == sorted(
        str(path.relative_to(tmp_path / "image")) for path in (tmp_path / "image").rglob("*") if path.is_file()
    )
    for name in (FILE, *Manifest.from_file(BUNDLE / FILE).files):
        assert sha256(tmp_path / "image" / "bundle" / name) == sha256(BUNDLE / name)
    for path in (tmp_path / "image").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert facts["digest"] == f"sha256:{sha256(BUNDLE / FILE)}"
    assert facts["tag"] == f"v2:{sha256(BUNDLE / FILE)[:12]}"
    assert facts["dockerfile"] == (tmp_path / "image" / "Dockerfile").read_text()
    assert f'bertie.bundle.digest="{facts["digest"]}"' in facts["dockerfile"]
    pins = (tmp_path / "image" / "requirements.txt").read_text()
    assert f"openvino=={version('openvino')}" in pins
    assert not {"torch", "transformers", "bertie"} & set(facts["requirements"])
    assert (facts["built"], facts["engine"]) == (False, None)


def test_the_same_model_makes_the_same_context(tmp_path: Path) -> None:
    for name in "ab":
        deploy_docker(BUNDLE, tmp_path / name, settings(), QUIET)
    for path in (tmp_path / "a").rglob("*"):
        assert path.stat().st_mtime == BEGINNING
        assert path.is_dir() or path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_bundle_that_is_mounted_is_not_copied(tmp_path: Path) -> None:
    facts = deploy_docker(BUNDLE, tmp_path / "image", settings(bake=False), QUIET)
    assert not (tmp_path / "image" / "bundle").exists()
    assert "COPY bundle/" not in facts["dockerfile"]
    assert "bertie.bundle.digest" not in facts["dockerfile"]


def test_the_engine_is_the_one_the_bundle_asks_for() -> None:
    manifest = Manifest.from_file(BUNDLE / FILE)
    assert "openvino" in plan(BUNDLE, "x", settings(), None)[0].pins
    other = manifest.model_copy(update={"chosen": "onnx-fp32"})
    assert served(other)[0].engine == "onnxruntime"
    assert not {"openvino"} & set(pinned(("serve",), "3.12"))


def test_what_needs_a_gpu_has_a_substitute_or_is_refused() -> None:
    manifest = Manifest.from_file(BUNDLE / FILE)
    first = manifest.variants[0].model_copy(update={"device": "cuda"})
    variant, warning = served(manifest.model_copy(update={"variants": (first, manifest.variants[1])}))
    assert variant.name == "onnx-fp32"
    assert "openvino-fp32 needs a GPU" in warning
    with pytest.raises(BundleUnusable, match="needs a GPU"):
        served(manifest.model_copy(update={"variants": (first,)}))


def test_a_serving_image_has_no_pytorch_and_no_rights_and_a_training_one_has_both() -> None:
    serving = dockerfile(Recipe("python:3.12-slim", "bertie-1-py3-none-any.whl"))
    training = dockerfile(
        Recipe("python:3.12-slim", "bertie-1-py3-none-any.whl", with_training=True, extras=("serve", "train"))
    )
    assert "USER 65532:65532" in serving
    assert "find_spec" in serving
    assert "--no-deps" in serving
    assert "USER" not in training
    assert "find_spec" not in training
    assert "bertie-1-py3-none-any.whl[serve,train]" in training
    for text in (serving, training):
        entry = next(line for line in text.splitlines() if line.startswith("ENTRYPOINT "))
        assert json.loads(entry.removeprefix("ENTRYPOINT ")) == ["python", "-m", "bertie.deploy.container"]
        assert 'CMD ["serve"]' in text


def test_a_label_keeps_what_is_in_it() -> None:
    text = dockerfile(Recipe("x", "y", labels={"a": 'say "$HOME"'}))
    assert r'LABEL a="say \"\$HOME\""' in text


def test_each_requirement_of_the_server_has_its_version() -> None:
    pins = pinned(("serve",), "3.12")
    assert pins["fastapi"] == version("fastapi")
    assert pins["starlette"] == version("starlette")  # which fastapi needs
    assert all(one.partition("+")[0] == one for one in pinned(("serve", "train"), None).values())
    assert not any(name in pins for name in ("pytest", "scikit-learn"))
    # What another version of Python needs is asked of that version.
    marked = [line for line in requires("anyio") or () if "typing_extensions" in line]
    assert marked
    assert "typing-extensions" in pinned(("serve",), "3.12")


def test_the_wheel_installs_and_runs(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        facts = email.message_from_bytes(archive.read(f"bertie-{version('bertie')}.dist-info/METADATA"))
        assert facts["Name"] == "bertie"
    to = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--no-cache-dir", "--target", str(to)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "bertie", "--version"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(to)},
        cwd=to,
        check=True,
    )
    assert done.stdout == f"bertie {version('bertie')}\n"
    assert (to / "bertie" / "samples" / "train.csv").is_file()
    assert (to / "bin" / "bertie").is_file()


def test_with_all_wheels_at_hand_no_index_is_asked(tmp_path: Path) -> None:
    own = write_wheel(tmp_path)
    alone = deploy_docker(BUNDLE, tmp_path / "a", settings(), QUIET, wheels=own)
    (tmp_path / "numpy-2-py3-none-any.whl").touch()
    together = deploy_docker(BUNDLE, tmp_path / "b", settings(), QUIET, wheels=tmp_path)
    assert "ARG PIP_NO_INDEX\n" in alone["dockerfile"]
    assert "ARG PIP_NO_INDEX=1\n" in together["dockerfile"]
    wheels = [name for name in together["files"] if name.startswith("wheels/")]
    assert wheels == [f"wheels/{own.name}", "wheels/numpy-2-py3-none-any.whl"]


def test_a_damaged_bundle_gets_no_image(tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleDamaged):
        deploy_docker(tmp_path / "bundle", tmp_path / "image", settings(), QUIET)
    assert not (tmp_path / "image").exists()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for flags in ({"extras": "grcp"}, {"platform": "amd64"}, {"base_image": "a b"}):
        with pytest.raises(UsageError, match="cannot"):
            deploy_docker(BUNDLE, tmp_path / "image", settings(**flags), QUIET)
    (tmp_path / "other-1.whl").touch()
    with pytest.raises(UsageError, match="no wheel of bertie"):
        deploy_docker(BUNDLE, tmp_path / "image", settings(), QUIET, wheels=tmp_path / "other-1.whl")
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no wheel in"):
        deploy_docker(BUNDLE, tmp_path / "image", settings(), QUIET, wheels=tmp_path / "none")
    deploy_docker(BUNDLE, tmp_path / "image", settings(), QUIET)
    with pytest.raises(OutputError, match="not empty"):
        deploy_docker(BUNDLE, tmp_path / "image", settings(), QUIET)


def test_a_client_without_its_server_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'cannot connect.' >&2\nexit ${ENDS:-0}\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if not shutil.which("podman", path="/bin") else str(tmp_path))
    for ends in "01":
        monkeypatch.setenv("ENDS", ends)
        with pytest.raises(DeployError, match="docker cannot build here"):
            engine.find("docker")
    with pytest.raises(DeployError, match="podman cannot build here: it is not installed"):
        engine.find("podman")
    assert engine.find("none") is None


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\necho step one\necho 'no space left'\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(DeployError, match="no space left"):
        engine.build([str(program)], QUIET)
    with pytest.raises(DeployError, match="cannot start"):
        engine.build([str(tmp_path / "nothing")], QUIET)


def test_several_platforms_are_built_as_each_engine_does_it() -> None:
    two, here = ("linux/amd64", "linux/arm64"), Path("image")
    assert engine.build_command("docker", here, "t:1", ()) == ["docker", "build", "--tag", "t:1", "image"]
    assert engine.build_command("docker", here, "t:1", two)[:4] == [
        *("docker", "buildx", "build", "--platform=linux/amd64,linux/arm64"),
    ]
    for name in ("podman", "buildah"):
        assert "--manifest" in engine.build_command(name, here, "t:1", two)
        assert "--tag" in engine.build_command(name, here, "t:1", two[:1])


def test_where_docker_writes_an_archive_the_archive_is_what_is_named(bertie: Bertie, tmp_path: Path) -> None:
    """With a program in docker's place: docker itself does not run without a daemon."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = info ]; then echo 29; exit; fi\n'
        'if [ "$1" = image ]; then echo 12; exit; fi\n'
        'for word; do case "$word" in *dest=*) head -c 3000000 /dev/zero > "${word##*dest=}";; esac; done\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    words = ("deploy", "docker", BUNDLE, "--out", tmp_path / "image", "--engine", "docker", "--overwrite")
    two = bertie(*words, "--platform", "linux/amd64,linux/arm64", env=os.environ | {"PATH": path})
    assert two.returncode == 0, two.stderr
    archive = tmp_path / "image" / "image.oci.tar"
    assert archive.is_file()
    assert f"image    {archive}, 3 MB" in two.stdout
    assert f"oci-archive:{archive} docker://" in two.stdout.splitlines()[-1]
    one = bertie(*words, env=os.environ | {"PATH": path})
    assert "oci-archive" not in one.stdout
    assert one.stdout.splitlines()[-1].startswith("next: docker run")


def test_the_command_shows_writes_and_says_what_comes_next(bertie: Bertie, tmp_path: Path) -> None:
    words = ("deploy", "docker", BUNDLE, "--out", tmp_path / "image", "--engine", "none")
    dry = bertie(*words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not (tmp_path / "image").exists()
    facts = last_json(bertie(*words, "--json").stdout)
    assert dry.stdout.startswith(str(facts["dockerfile"]))
    said = bertie(*words, "--overwrite", "--no-bake")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1].endswith(f"docker build --tag {facts['tag']} {tmp_path / 'image'}")
