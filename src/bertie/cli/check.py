"""`bertie check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bertie.cli.options import Json, Quiet, line, put, table, talk, with_settings
from bertie.config import DataSettings, TrainSettings


@with_settings
def check(
    data: Annotated[
        list[Path], typer.Argument(help="Labelled files; several are the splits of one set, training first.")
    ],
    settings: DataSettings,
    base: Annotated[str, typer.Option(help="Base whose tokenizer counts the tokens.")] = "minilm",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check labelled data before training.

    Rows, labels, empty texts, duplicates, conflicts, leakage between splits, lengths, what would be cut.
    Ends with exit code 3 if something must be mended before training.
    """
    from bertie.pipeline.check_data import check_data  # noqa: PLC0415 - keeps --help fast

    report = check_data(data, settings, TrainSettings(base=base), talk(quiet=quiet))
    errors = [problem for problem in report["problems"] if problem["severity"] == "error"]
    if json:
        put(report)
    else:
        _print(report)
        line()
        if errors:
            line(f"{len(errors)} kinds of errors must be mended before training.")
        else:
            line(f"ready to train: bertie train {data[0]} --out runs/first")
    if errors:
        raise typer.Exit(3)


def _print(report: dict[str, Any]) -> None:
    tokens = report["tokens"]
    lengths = f"{report['words'].get('median', 0)} words in the median, {report['words'].get('longest', 0)} at most"
    line(f"{report['rows']} rows, {report['kind']}{', pairs' if report['pairs'] else ''}; {lengths}")
    if tokens:
        line(f"tokens: {tokens['median']} in the median, 95 % up to {tokens['p95']}, {tokens['longest']} at most")
    line()
    table(["label", "rows"], [[label, str(count)] for label, count in report["labels"].items()])
    for problem in report["problems"]:
        line()
        where = ", ".join(map(str, problem["rows"][:10])) + (", ..." if problem["count"] > 10 else "")
        line(f"{problem['severity']}: {problem['kind']}: {problem['file']}: {problem['message']}")
        if problem["rows"]:
            line(f"  lines {where}")
