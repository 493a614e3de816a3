"""`bertie deploy sagemaker-train`, and what belongs to it: `-follow` and `-source`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bertie.cli.deploy.dry_run import print_requests
from bertie.cli.options import Json, Quiet, line, put, talk, with_settings
from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings

Out = Annotated[
    Path | None, typer.Option(help="Folder of the fetched model, which is made; the job's name.", metavar="DIR")
]
Wheel = Annotated[
    Path | None, typer.Option(help="Wheel of bertie to install, instead of the one that runs.", metavar="FILE")
]


@with_settings
def train(
    aws: AwsSettings,
    job: TrainingJobSettings,
    data_settings: DataSettings,
    split_settings: SplitSettings,
    settings: TrainSettings,
    data: Annotated[
        str, typer.Argument(help="Labelled texts: a file or folder here, or s3://BUCKET/PREFIX.", show_default=False)
    ],
    valid: Annotated[str | None, typer.Option(help="Validation rows; cut from DATA if not given.")] = None,
    test: Annotated[str | None, typer.Option(help="Test rows; cut from DATA if not given.")] = None,
    out: Out = None,
    wheel: Wheel = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every request in order, and send none.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on Amazon SageMaker and fetch the model.

    Checks the data here, uploads it, starts a training job, follows it with its log, and unpacks the model that it
    leaves. With --checkpoints s3://... of an earlier job it goes on where that one stopped.
    """
    from bertie.deploy.sagemaker.training import Wanted, train_on_sagemaker  # noqa: PLC0415 - keeps --help fast

    wanted = Wanted(data, valid, test, aws, job, data_settings, split_settings, settings, out, wheel, dry_run)
    facts = train_on_sagemaker(wanted, talk(quiet=quiet))
    if json:
        put(facts)
    elif dry_run:
        print_requests(facts)
        line("nothing was sent; next: the same without --dry-run")
    elif not job.wait:
        line(f"job      {facts['job']}")
        line(f"stop it: {facts['stop']}")
        line(f"next: {facts['follow']}")
    else:
        _print_model(facts)
        line(f"uploads and checkpoints stay in S3; {facts['remove']} removes them")


@with_settings
def follow(
    aws: AwsSettings,
    job: Annotated[str, typer.Argument(help="Name of the training job.", show_default=False)],
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Follow a SageMaker training job that was started before, and fetch its model."""
    from bertie.deploy.sagemaker.training import follow_job  # noqa: PLC0415 - keeps --help fast

    facts = follow_job(job, aws, out, talk(quiet=quiet))
    if json:
        put(facts)
    else:
        _print_model(facts)


def source(
    out: Annotated[Path, typer.Argument(help="Folder, which is made.", show_default=False)],
    wheel: Wheel = None,
    from_index: Annotated[
        bool, typer.Option("--from-index", help="Let pip find this version of bertie in its index instead of a wheel.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is there already.")] = False,
    json: Json = False,
) -> None:
    """Write the source folder for SageMaker's SDK: train.py and requirements.txt.

    For those who start their jobs by ModelTrainer (SDK 3) or an Estimator (SDK 2) themselves.
    """
    from bertie.deploy.sagemaker.source_folder import ENTRY, REQUIREMENTS, write_source_folder  # noqa: PLC0415

    files = [str(path) for path in write_source_folder(out, wheel=wheel, from_index=from_index, overwrite=overwrite)]
    if json:
        put({"out": str(out), "files": files, "entry": ENTRY, "requirements": REQUIREMENTS})
        return
    for file in files:
        line(file)
    line(f"next: SourceCode(source_dir={str(out)!r}, entry_script={ENTRY!r}, requirements={REQUIREMENTS!r})")


def _print_model(facts: dict[str, Any]) -> None:
    for name, value in facts["metrics"].items():
        line(f"{name}  {value:g}")
    if facts.get("saved_percent") is not None:
        line(f"paid     {facts['billable_seconds']} of {facts['train_seconds']} s, {facts['saved_percent']:g} % saved")
    line(f"bundle   {facts['bundle']}")
    line(f"next: bertie serve {facts['out']}, or bertie deploy sagemaker {facts['out']}")
