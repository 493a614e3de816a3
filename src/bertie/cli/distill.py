"""`bertie distill`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Quiet, line, put, talk, with_settings
from bertie.cli.train import print_metrics
from bertie.config import DataSettings, DistillSettings, SplitSettings, TrainSettings
from bertie.pipeline.launch import become_torchrun, launch_here
from bertie.pipeline.supervise import in_worker


@with_settings
def distill(
    data_settings: DataSettings,
    split_settings: SplitSettings,
    settings: TrainSettings,
    distill_settings: DistillSettings,
    teacher: Annotated[
        Path, typer.Argument(help="The model to learn from: a run, a bundle, or its .tar.gz.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the student's run, which is made.", metavar="RUN")],
    data: Annotated[
        Path | None,
        typer.Argument(help="Labelled texts; those that the teacher's run holds if not given.", show_default=False),
    ] = None,
    valid: Annotated[Path | None, typer.Option(help="Validation rows, beside DATA.", metavar="FILE")] = None,
    test: Annotated[Path | None, typer.Option(help="Test rows, beside DATA.", metavar="FILE")] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="Texts without labels: any format that DATA can have, or .txt. May be repeated.", metavar="FILE"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there already.")] = False,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="Go on if RUN is there already, begin if not: the same command again.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small student on a large model's answers.

    Fewer layers, a smaller vocabulary, also from texts without labels; the result is a run like any other.
    """
    launch = launch_here(os.environ)
    if launch is not None:
        become_torchrun(launch, sys.argv[1:], os.environ)
    torchrun = "WORLD_SIZE" in os.environ
    kills = in_worker(settings.restarts)

    from bertie.pipeline.distill import DistillRequest, distill_run  # noqa: PLC0415 - keeps --help fast

    request = DistillRequest(
        teacher,
        out,
        data,
        valid,
        test,
        tuple(unlabelled or ()),
        overwrite,
        again=auto_resume or kills > 0 or torchrun,
        kills=kills,
    )
    result = distill_run(request, data_settings, split_settings, settings, distill_settings, talk(quiet=quiet))
    if not result:  # another process of the same training says it
        return
    if json:
        put(result)
        return
    of = result["teacher"]
    print_metrics(result["metrics"], {"the teacher": of["metrics"]})
    line()
    line(f"both answer alike on {100 * of['agreement']:.1f} % of the texts")
    line(f"student {result['layers']} layers, {result['parameters'] / 1e6:.1f} million parameters")
    line(f"run     {result['run']}")
    line(f"bundle  {result['bundle']}")
    line(f"report  {result['report']}")
    line(f"next: bertie serve {result['run']}")
