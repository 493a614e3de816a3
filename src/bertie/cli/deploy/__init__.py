"""`bertie deploy`: from a bundle to where it answers."""

from __future__ import annotations

from typing import Any

import typer

from bertie.cli.deploy import docker, kubernetes, recommend, sagemaker, sagemaker_train


class Deploy(typer.core.TyperGroup):
    """Takes `sagemaker status NAME` for `sagemaker-status NAME`, and so on for each verb that has such a name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Join the first two words where that is a verb. A model folder of that name is ./status."""
        if len(args) > 1 and f"{args[0]}-{args[1]}" in self.commands:
            args = [f"{args[0]}-{args[1]}", *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Deploy,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Put a model where it answers: into an image, onto SageMaker or Kubernetes.",
)
app.command("docker")(docker.docker)
app.command("kubernetes")(kubernetes.kubernetes)
app.command("sagemaker")(sagemaker.sagemaker)
app.command("sagemaker-train")(sagemaker_train.train)
app.command("sagemaker-follow")(sagemaker_train.follow)
app.command("sagemaker-source")(sagemaker_train.source)
app.command("sagemaker-batch")(sagemaker.batch)
app.command("sagemaker-status")(sagemaker.status)
app.command("sagemaker-logs")(sagemaker.logs)
app.command("sagemaker-delete")(sagemaker.delete)
app.command("sagemaker-recommend")(recommend.recommend)
