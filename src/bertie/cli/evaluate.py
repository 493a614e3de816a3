"""`bertie evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Model, Quiet, line, put, table, talk, with_settings
from bertie.cli.train import print_metrics
from bertie.config import DataSettings


@with_settings
def evaluate(
    model: Model,
    data: Annotated[Path, typer.Argument(help="Labelled texts.", show_default=False)],
    settings: DataSettings,
    report: Annotated[Path | None, typer.Option(help="Write the report to this HTML file.", metavar="FILE")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on labelled texts.

    Metrics with intervals, label by label; beside simple baselines if MODEL is a run.
    """
    from bertie.pipeline.measure import evaluate_model  # noqa: PLC0415 - keeps --help fast

    metrics = evaluate_model(model, data, settings, talk(quiet=quiet), report)
    if json:
        put(metrics)
        return
    print_metrics(metrics)
    line()
    names = ("precision", "recall", "f1")
    rows = [
        [label, *(f"{one[name]:.3f}" for name in names), str(one["support"])]
        for label, one in metrics["per_label"].items()
    ]
    table(["label", *names, "texts"], rows)
    line()
    auroc = "undefined" if metrics["auroc"] is None else f"{metrics['auroc']:.3f}"
    line(f"AUROC {auroc}, log loss {metrics['log_loss']:.3f}, calibration error {metrics['ece']:.3f}")
    if metrics["truncated"]:
        line(f"{metrics['truncated']} texts are longer than the model reads, and were cut")
    line(f"report  {report}" if report else "next: add --report FILE.html for pictures")
