"""What `bertie deploy docker` does: decide, write the context, build it where something can."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from bertie import disk
from bertie.bundle.read import opened
from bertie.deploy.docker import context, engine
from bertie.deploy.docker.settings import DockerSettings
from bertie.deploy.naming import name_of
from bertie.talk import Talk


def deploy_docker(
    model: Path,
    out: Path,
    settings: DockerSettings,
    talk: Talk,
    *,
    wheels: Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the build context of a model's image into `out`, build it, and return what `--json` prints.

    `wheels` is one of bertie instead of the running one, or a folder of all that the image needs.
    With `dry_run` nothing is written or built.
    Raises BundleError, UsageError, DependencyMissing, OutputError, and DeployError if the build fails.
    """
    with opened(model) as bundle:
        plan, warning = context.plan(bundle, name_of(model), settings, wheels)
        if warning:
            talk.warn(warning)
        if dry_run:
            with tempfile.TemporaryDirectory() as scratch:
                files = context.write(plan, Path(scratch))
                text = (Path(scratch) / "Dockerfile").read_text(encoding="utf-8")
        else:
            with disk.folder(out, replace=overwrite) as stage:
                files = context.write(plan, stage)
            text = (out / "Dockerfile").read_text(encoding="utf-8")
    found = engine.find(settings.engine)
    platforms = tuple(filter(None, settings.platform.split(",")))
    command = engine.build_command(found or "docker", out, plan.tag, platforms)
    archive = engine.archive_of(found or "docker", out, platforms)
    facts: dict[str, Any] = {
        "out": str(out),
        "files": files,
        "dockerfile": text,
        "tag": plan.tag,
        "digest": f"sha256:{plan.digest}",
        "requirements": dict(plan.pins),
        "engine": found,
        "command": shlex.join(command),
        "archive": str(archive) if archive else None,
        "built": False,
        "bytes": None,
    }
    if found and not dry_run:
        engine.build(command, talk)
        size = archive.stat().st_size if archive else engine.size(found, plan.tag)
        facts |= {"built": True, "bytes": size}
    return facts
