"""`bertie train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any

import typer

from bertie.cli.options import Json, Quiet, line, put, table, talk, with_settings
from bertie.config import FREE, DataSettings, SplitSettings, TrainSettings
from bertie.errors import UsageError
from bertie.pipeline.launch import become_torchrun, launch_here
from bertie.pipeline.supervise import in_worker

MAY_CHANGE = FREE - {"checkpoints"}
"""Settings that may be given beside --resume; from another place of the checkpoints it would begin anew."""


@with_settings
def train(
    context: typer.Context,
    data_settings: DataSettings,
    split_settings: SplitSettings,
    settings: TrainSettings,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Labelled texts: CSV, TSV, JSON Lines, Parquet (also .gz), or a folder.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, which is made.", metavar="RUN")] = None,
    valid: Annotated[
        Path | None, typer.Option(help="Validation rows; cut from DATA if not given.", metavar="FILE")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Test rows; cut from DATA if not given.", metavar="FILE")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there already.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with a run that was interrupted; needs nothing else.", metavar="RUN")
    ] = None,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="Go on if RUN is there already, begin if not: the same command again.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune, evaluate and export.

    Checks the data, trains, compares with simple baselines, writes bundle and report into a run.
    """
    if resume is not None:
        changed = _changed(context, settings, data, out)
        if (resume / "config.toml").is_file():
            settings = TrainSettings.load(changed, environment={}, file=resume / "config.toml")
    else:
        _needed(data, out)  # before other processes are started
    launch = launch_here(os.environ)
    if launch is not None:
        become_torchrun(launch, sys.argv[1:], os.environ)
    torchrun = "WORLD_SIZE" in os.environ  # which starts a killed process again by itself
    kills = in_worker(settings.restarts)

    from bertie.pipeline.run_folder import Request  # noqa: PLC0415 - keeps --help fast
    from bertie.pipeline.train_run import resume_run, train_run  # noqa: PLC0415

    if resume is not None:
        result = resume_run(resume, talk(quiet=quiet), kills, changed)
    else:
        again = auto_resume or kills > 0 or torchrun
        request = Request(*_needed(data, out), valid, test, overwrite, again, kills)
        result = train_run(request, data_settings, split_settings, settings, talk(quiet=quiet))
    if not result:  # another process of the same training says it
        return
    if json:
        put(result)
        return
    print_metrics(result["metrics"])
    line()
    line(f"run     {result['run']}")
    line(f"bundle  {result['bundle']}")
    line(f"report  {result['report']}")
    line(f"next: bertie serve {result['run']}")


def _needed(data: Path | None, out: Path | None) -> tuple[Path, Path]:
    """Return what a training cannot begin without. Raises UsageError where it is not given."""
    if data is None or out is None:
        raise UsageError("bertie train needs DATA and --out RUN.", hint="or --resume RUN, to go on with a run")
    return data, out


def _changed(context: typer.Context, settings: TrainSettings, data: Path | None, out: Path | None) -> dict[str, object]:
    """Return the settings that were given beside --resume, to be others from now on.

    Raises UsageError if something was given that the resumed run has already.
    """
    known = {*DataSettings.model_fields, *SplitSettings.model_fields, *TrainSettings.model_fields}
    given = {
        name
        for name in {*known, "valid", "test", "overwrite", "auto_resume", "config"} & {*context.params}
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    refused = _flags(given - MAY_CHANGE)
    if data is not None or out is not None or refused:
        what = ", ".join(filter(None, ["DATA" if data else "", "--out" if out else "", *refused]))
        raise UsageError(
            f"--resume takes all from the run; {what} cannot be given beside it.",
            hint=f"what may be: {', '.join(_flags(MAY_CHANGE))}",
        )
    return {name: getattr(settings, name) for name in given}


def _flags(settings: AbstractSet[str]) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in sorted(settings)]


def print_metrics(metrics: dict[str, Any], others: dict[str, Any] | None = None) -> None:
    """Write the headline metrics with intervals, those of `others` by name and of the baselines beside them."""
    names = ("accuracy", "macro_f1", "mcc")
    rows = [["this model", *(_interval(metrics[name]) for name in names)]]
    rows += [[name, *(_interval(other[key]) for key in names)] for name, other in (others or {}).items()]
    rows += [[one["name"], *(_interval(one[name]) for name in names)] for one in metrics.get("baselines", [])]
    line()
    table([f"{metrics['n']} texts", "accuracy", "macro-F1", "MCC"], rows)


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
