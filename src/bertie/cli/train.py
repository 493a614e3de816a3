"""`bertie train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bertie.cli.options import Json, Quiet, line, put, table, talk, with_settings
from bertie.config import DataSettings, SplitSettings, TrainSettings


@with_settings
def train(
    data: Annotated[
        Path, typer.Argument(help="Labelled texts: CSV, TSV, JSON Lines, Parquet (also .gz), or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run, which is made.", metavar="RUN")],
    data_settings: DataSettings,
    split_settings: SplitSettings,
    settings: TrainSettings,
    valid: Annotated[
        Path | None, typer.Option(help="Validation rows; cut from DATA if not given.", metavar="FILE")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Test rows; cut from DATA if not given.", metavar="FILE")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there already.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune, evaluate and export.

    Checks the data, trains, compares with simple baselines, writes bundle and report into a run.
    """
    from bertie.pipeline.train_run import Request, train_run  # noqa: PLC0415 - keeps --help fast

    request = Request(data, out, valid, test, overwrite)
    result = train_run(request, data_settings, split_settings, settings, talk(quiet=quiet))
    if json:
        put(result)
        return
    print_metrics(result["metrics"])
    line()
    line(f"run     {result['run']}")
    line(f"bundle  {result['bundle']}")
    line(f"report  {result['report']}")
    line(f"next: bertie serve {result['run']}")


def print_metrics(metrics: dict[str, Any]) -> None:
    """Write the headline metrics with intervals, the baselines beside them."""
    names = ("accuracy", "macro_f1", "mcc")
    rows = [["this model", *(_interval(metrics[name]) for name in names)]]
    rows += [[one["name"], *(_interval(one[name]) for name in names)] for one in metrics.get("baselines", [])]
    line()
    table([f"{metrics['n']} texts", "accuracy", "macro-F1", "MCC"], rows)


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
