"""A real container engine for tests: podman with a store of its own, and an image of Python to build upon.

No registry of images is asked: `python -m tests.engine` makes the image's file system from Debian packages and fetches
the wheels that images which serve, and which train, need; CI does that before its tests. They lie beside the
environments.

Needs root, and the Debian packages podman, runc and debootstrap.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bertie.deploy.docker.requirements import pinned
from tests.environments import MUST_RUN, home

SUITE, PYTHON = "bookworm", "3.11"
BASE = f"localhost/debian/python:{PYTHON}"
PACKAGES = "python-is-python3,python3-pip,ca-certificates"
EXTRAS = {"wheels": ("serve", "openvino"), "training-wheels": ("serve", "openvino", "train")}
"""By folder: what its wheels are for."""

MEMORY, ROOM = Path("/dev/shm"), 8 * 2**30  # noqa: S108 - ten thousands of files are written, and soon removed
"""Where images are kept while tests run, if there is so much room."""

# runc, because crun refuses machines that mount both versions of cgroups; the limits of open files and processes are
# lower than podman's own, which a machine may not grant.
CONTAINERS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
STORAGE = '[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'


def parts() -> Path:
    """Return the folder of the base image and the wheels; other versions lie elsewhere."""
    wanted = json.dumps([SUITE, PACKAGES, {name: pinned(extras, PYTHON) for name, extras in EXTRAS.items()}])
    return home() / f"image-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"


def make() -> Path:
    """Make both, unless they are there."""
    folder = parts()
    if (folder / ".ready").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    sys.stderr.write("making a base image\n")
    root = folder / "root"
    folder.mkdir(parents=True)
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root)
    for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / left)
    _run("tar", "-C", root, "--exclude=./dev/*", "-cf", folder / "root.tar", ".")
    shutil.rmtree(root)
    for name, extras in EXTRAS.items():
        versions = [f"{package}=={version}" for package, version in pinned(extras, PYTHON).items()]
        options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={PYTHON}", "--dest", folder / name]
        _run(sys.executable, "-m", "pip", "download", *options, *versions)
    (folder / ".ready").touch()
    return folder


@dataclass
class Engine:
    """Podman, its images and containers in a folder of the test's."""

    folder: Path
    wheels: Path
    training_wheels: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes `podman`, also one that is called by a program under test, use that folder."""
        return os.environ | {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def podman(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of podman."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            ["podman", *map(str, words)], env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, image: str, *words: str, options: Sequence[object] = ()) -> str:
        """Start a container as Kubernetes would: read-only, without rights, only /tmp writable. Return its id."""
        strict = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        started = self.podman("run", "--detach", "--no-healthcheck", "--network=none", *strict, *options, image, *words)
        return started.stdout.strip()

    def inside(self, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.podman("exec", container, *command, check=False)

    def close(self) -> None:
        """Remove all containers and images."""
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        self.podman("rmi", "--all", "--force", check=False)


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Give podman with the base image. Skips, or fails in CI, where it cannot run."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    with tempfile.TemporaryDirectory(prefix="bertie-podman-", dir=MEMORY if roomy else None) as folder:
        one = _started(Path(folder))
        try:
            yield one
        finally:
            one.close()


def _started(folder: Path) -> Engine:
    found = parts()
    if not (found / ".ready").is_file():
        _cannot("the base image is not there: python -m tests.engine")
    if os.geteuid() != 0 or shutil.which("podman") is None or shutil.which("runc") is None:
        _cannot("containers need root, podman and runc")
    (folder / "containers.conf").write_text(CONTAINERS.format(folder=folder), encoding="utf-8")
    one = Engine(folder, *(found / name for name in EXTRAS))
    for driver in ("overlay", "vfs"):  # within a container there may be no overlay
        (folder / "storage.conf").write_text(STORAGE.format(driver=driver, folder=folder), encoding="utf-8")
        done = one.podman("import", "--quiet", found / "root.tar", BASE, check=False)
        if done.returncode == 0:
            return one
        shutil.rmtree(folder / "store", ignore_errors=True)
    return _cannot(f"podman cannot run here: {done.stderr.strip()}")


def _cannot(reason: str) -> Engine:
    if os.environ.get(MUST_RUN) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    make()
