"""`bertie deploy docker`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Model, Quiet, line, put, talk, with_settings
from bertie.deploy.docker.settings import DockerSettings


@with_settings
def docker(
    settings: DockerSettings,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of the build context, which is made.", metavar="FOLDER")] = Path(
        "image"
    ),
    wheels: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the wheels to install, without asking any index; or the wheel of another bertie.",
            metavar="PATH",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is there already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the Dockerfile; write and build nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model's Dockerfile with its build context, and build the image.

    The image serves, as a user without rights and with a read-only file system, and holds no PyTorch. It is what
    SageMaker and Kubernetes start. Where no docker, podman or buildah works, the context is written alone.
    """
    from bertie.deploy.docker.deploy import deploy_docker  # noqa: PLC0415 - keeps --help fast

    facts = deploy_docker(model, out, settings, talk(quiet=quiet), wheels=wheels, overwrite=overwrite, dry_run=dry_run)
    if json:
        put(facts)
        return
    if dry_run:
        line(facts["dockerfile"])
        line(f"next: the same without --dry-run writes {facts['out']} and runs {facts['command']}")
        return
    line(f"context  {facts['out']}: {len(facts['files'])} files")
    if not facts["built"]:
        line(f"no docker, podman or buildah was used; next: {facts['command']}")
        return
    size = f", {facts['bytes'] / 1e6:,.0f} MB" if facts["bytes"] else ""
    line(f"image    {facts['archive'] or facts['tag']}{size}")
    if facts["archive"]:
        line(f"next: skopeo copy --all oci-archive:{facts['archive']} docker://REGISTRY/{facts['tag']}")
        return
    mount = "" if settings.bake else " -v BUNDLE:/opt/ml/model:ro"
    line(f"next: {facts['engine']} run --rm --read-only --tmpfs /tmp -p 8080:8080{mount} {facts['tag']}")
