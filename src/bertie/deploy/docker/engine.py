"""What builds images on this machine: docker, podman or buildah, whichever works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from bertie.errors import DeployError
from bertie.talk import Talk

PROBES = {
    # The client of docker may be here without its server.
    "docker": ("docker", "info", "--format", "{{.ServerVersion}}"),
    "podman": ("podman", "info"),
    "buildah": ("buildah", "info"),
}
PROBE_SECONDS = 20
UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def find(wanted: str) -> str | None:
    """Return the engine to build with, None for none. Raises DeployError for one that is named and does not work."""
    if wanted == "none":
        return None
    for name in PROBES if wanted == "auto" else (wanted,):
        why = _fails(name)
        if not why:
            return name
        if wanted != "auto":
            raise DeployError(f"{name} cannot build here: {why}.", hint="choose another --engine, or none")
    return None


def _fails(name: str) -> str:
    """Return why an engine does not work here; nothing if it does."""
    if shutil.which(name) is None:
        return "it is not installed"
    try:
        done = subprocess.run(  # noqa: S603 - a command of our own
            PROBES[name], capture_output=True, text=True, check=False, timeout=PROBE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    # The client of docker ends with 0 although it reached no server, and says so on stderr.
    reached = done.returncode == 0 and bool(done.stdout.strip())
    return "" if reached else (said[-1].rstrip(".") if said else f"it ended with {done.returncode}")


def archive_of(engine: str, context: Path, platforms: tuple[str, ...]) -> Path | None:
    """Return the file that holds the image in place of the engine's own store; None where the store does."""
    return context / "image.oci.tar" if engine == "docker" and len(platforms) > 1 else None


def build_command(engine: str, context: Path, tag: str, platforms: tuple[str, ...]) -> list[str]:
    """Return the command that builds an image. Several platforms become one list of images.

    Docker puts such a list into a file beside the Dockerfile, the others into their own store.
    """
    platform = [f"--platform={','.join(platforms)}"] if platforms else []
    if engine == "docker":
        if len(platforms) > 1:
            output = f"--output=type=oci,dest={archive_of(engine, context, platforms)}"
            return ["docker", "buildx", "build", *platform, "--tag", tag, output, str(context)]
        return ["docker", "build", *platform, "--tag", tag, str(context)]
    named = ["--manifest", tag] if len(platforms) > 1 else ["--tag", tag]
    # The OCI format has no health check.
    return [engine, "build", "--format", "docker", *platform, *named, str(context)]


def build(command: list[str], talk: Talk) -> None:
    """Build, showing what the engine says. Raises DeployError with its last words if it fails."""
    talk.say(f"building: {' '.join(command)}")
    last: list[str] = []
    try:
        with subprocess.Popen(  # noqa: S603 - a command of our own
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                talk.say(f"  {line.rstrip()}")
                last = [*last[-4:], line.strip()]
    except OSError as error:
        raise DeployError(f"cannot start {command[0]}: {error.strerror or error}.") from error
    if process.returncode:
        raise DeployError(
            f"{command[0]} could not build the image: {' | '.join(filter(None, last))}",
            hint="the build context is whole; mend the cause and run the command again",
        )


def size(engine: str, tag: str) -> int | None:
    """Return the bytes of an image that was just built, None if the engine does not say."""
    if engine == "buildah":
        said = _said(["buildah", "images", "--json", tag])
        try:
            text = str(json.loads(said)[0]["size"])
        except (ValueError, LookupError, TypeError):
            return None
        match = re.fullmatch(r"([\d.]+)\s*([kKMG]?B)", text)
        return round(float(match[1]) * UNITS[match[2]]) if match else None
    said = _said([engine, "image", "inspect", "--format", "{{.Size}}", tag])
    return int(said) if said.isdigit() else None


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a command of our own
    return done.stdout.strip() if done.returncode == 0 else ""
