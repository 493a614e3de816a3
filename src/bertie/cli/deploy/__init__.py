"""`bertie deploy`: from a bundle to where it answers."""

from __future__ import annotations

import typer

from bertie.cli.deploy import docker, kubernetes

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Put a model where it answers: into an image, onto Kubernetes.",
)
app.command("docker")(docker.docker)
app.command("kubernetes")(kubernetes.kubernetes)
