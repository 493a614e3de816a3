"""The build context: everything that the image is made of, in one folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bertie.bundle.manifest import FILE, Manifest, Variant
from bertie.bundle.read import verify
from bertie.deploy.docker.dockerfile import Recipe, dockerfile
from bertie.deploy.docker.requirements import pinned
from bertie.deploy.docker.settings import DockerSettings
from bertie.deploy.docker.wheel import write_wheel
from bertie.errors import BundleUnusable, UsageError, nearest
from bertie.version import __version__

EXTRAS = ("grpc", "otel")
"""What may be added to a server."""

OWN = re.compile(r"bertie-[^-]+-py3-none-any\.whl")
"""The name of bertie's wheel."""

BEGINNING = 315532800
"""1 January 1980, the time of every file in it: the same files make the same layers."""

IGNORE = """# Only what the Dockerfile copies.
*
!requirements.txt
!wheels
!bundle
"""


@dataclass(frozen=True)
class Plan:
    """What is to be written, decided before anything is."""

    bundle: Path
    manifest: Manifest
    settings: DockerSettings
    name: str
    digest: str  # of the manifest, which has those of all files
    extras: tuple[str, ...]
    pins: Mapping[str, str]
    wheels: tuple[Path, ...]  # the user's; bertie's own is made, unless it is among them

    @property
    def own(self) -> Path | None:
        """The user's wheel of bertie."""
        return next((wheel for wheel in self.wheels if OWN.fullmatch(wheel.name)), None)

    @property
    def tag(self) -> str:
        """The name of the image."""
        return self.settings.tag or f"{self.name}:{self.digest[:12]}"

    @property
    def requirements(self) -> str:
        """The text of requirements.txt."""
        head = f"# The versions beside which bertie {__version__} measured this model.\n"
        return head + "".join(f"{name}=={version}\n" for name, version in self.pins.items())

    def recipe(self, wheel: str) -> Recipe:
        """Return what the Dockerfile is made from."""
        settings = self.settings
        index = not any(wheel != self.own for wheel in self.wheels)
        return Recipe(
            settings.base_image, wheel, settings.with_training, settings.bake, index, self.extras, self._labels()
        )

    def _labels(self) -> dict[str, str]:
        labels = {
            "org.opencontainers.image.title": self.name,
            "org.opencontainers.image.description": "A text classifier behind HTTP, served by bertie",
            "org.opencontainers.image.version": __version__,
            "org.opencontainers.image.base.name": self.settings.base_image,
            # SageMaker asks an image whether it can hold several models, and listen on another port than 8080.
            "com.amazonaws.sagemaker.capabilities.multi-models": "true",
            "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
        }
        if self.settings.bake:
            labels["bertie.bundle.digest"] = f"sha256:{self.digest}"
        return labels


def plan(bundle: Path, name: str, settings: DockerSettings, wheels: Path | None) -> tuple[Plan, str]:
    """Decide what an image of a bundle's folder holds; return also a warning, or nothing.

    `wheels` is one of bertie, or a folder of all that the image needs. Raises BundleError, UsageError, and
    DependencyMissing for a package that the image needs and this machine lacks.
    """
    manifest = Manifest.from_file(bundle / FILE)
    verify(bundle, manifest.files)
    variant, warning = served(manifest)
    added = _extras(settings)
    extras = ("serve", *(("openvino",) if variant.engine == "openvino" else ()), *added)
    if settings.with_training:
        extras += ("train",)
    python = re.search(r"python:(3\.\d+)", settings.base_image)
    pins = pinned(extras, python[1] if python else None)
    digest = hashlib.sha256((bundle / FILE).read_bytes()).hexdigest()
    return Plan(bundle, manifest, settings, name, digest, extras, pins, _found(wheels)), warning


def served(manifest: Manifest) -> tuple[Variant, str]:
    """Return the variant that answers in the image, which has no GPU, and a warning if it is not the chosen one."""
    chosen = manifest.variant()
    if chosen.device == "cpu":
        return chosen, ""
    for other in manifest.variants:
        if other.device == "cpu":
            return other, f"the variant {chosen.name} needs a GPU; {other.name} answers in this image, on CPUs"
    raise BundleUnusable(
        f"the only variant, {chosen.name}, needs a GPU, and this image is one for CPUs.",
        hint="keep a variant for CPUs in the bundle: bertie optimize with --portable",
    )


def write(plan: Plan, folder: Path) -> list[str]:
    """Write the context into an empty folder; return the names of its files."""
    wheels = folder / "wheels"
    wheels.mkdir()
    for given in plan.wheels:
        shutil.copyfile(given, wheels / given.name)
    wheel = plan.own or write_wheel(wheels)
    (folder / "requirements.txt").write_text(plan.requirements, encoding="utf-8")
    (folder / "Dockerfile").write_text(dockerfile(plan.recipe(wheel.name)), encoding="utf-8")
    (folder / ".dockerignore").write_text(IGNORE, encoding="utf-8")
    if plan.settings.bake:
        for name in (FILE, *plan.manifest.files):
            to = folder / "bundle" / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(plan.bundle / name, to)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the image's user is none of this machine's
        os.utime(path, (BEGINNING, BEGINNING))  # engines that look at times too know the layers again
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _found(wheels: Path | None) -> tuple[Path, ...]:
    """Return the wheels that the user has. Raises UsageError if there are none."""
    if wheels is None:
        return ()
    if wheels.is_dir():
        found = tuple(sorted(wheels.glob("*.whl")))
        if not found:
            raise UsageError(f"there is no wheel in {wheels}.", expected="files that end with .whl")
        return found
    if not (wheels.is_file() and OWN.fullmatch(wheels.name)):
        raise UsageError(
            f"{wheels} is no wheel of bertie.", expected="a file bertie-VERSION-py3-none-any.whl, or a folder"
        )
    return (wheels,)


def _extras(settings: DockerSettings) -> tuple[str, ...]:
    names = tuple(name.strip() for name in settings.extras.split(",") if name.strip())
    for name in names:
        if name not in EXTRAS:
            hint = nearest(name, EXTRAS) or f"known are {', '.join(EXTRAS)}"
            raise UsageError(f"--extras cannot have {name!r}.", hint=hint)
    return names
