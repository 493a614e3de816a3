"""`bertie deploy kubernetes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Model, Quiet, line, put, talk, with_settings
from bertie.deploy.kubernetes.settings import KubernetesSettings


@with_settings
def kubernetes(
    settings: KubernetesSettings,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder of the manifests, which is made.", metavar="FOLDER")] = Path(
        "kubernetes"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is there already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the manifests; write nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model's manifests for Kubernetes, as a base for kustomize.

    Pods with probes, limits and no rights; a Service; scaling by the tokens that wait; what protects and watches them.
    Or an InferenceService for KServe. With --trainjob also the training of its successor by Kubeflow.
    """
    from bertie.deploy.kubernetes.deploy import deploy_kubernetes  # noqa: PLC0415 - keeps --help fast

    facts = deploy_kubernetes(model, out, settings, talk(quiet=quiet), overwrite=overwrite, dry_run=dry_run)
    if json:
        put(facts)
        return
    if dry_run:
        line("---\n".join(f"# {name}\n{text}" for name, text in facts["files"].items()))
        line("# next: the same without --dry-run, then kubectl apply -k FOLDER")
        return
    for name in facts["files"]:
        line(str(out / name))
    line(f"next: kubectl apply -k {out}")
