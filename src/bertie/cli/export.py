"""`bertie export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Quiet, line, put, talk
from bertie.cli.train import print_metrics


def export(
    run: Annotated[Path, typer.Argument(help="A run with a checkpoint, for example of a training that was stopped.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a run's bundle from its checkpoint.

    Also metrics and report; for a training that was stopped, or to export again.
    """
    from bertie.pipeline.train_run import finish  # noqa: PLC0415 - keeps --help fast

    result = finish(run, talk(quiet=quiet))
    if json:
        put(result)
        return
    print_metrics(result["metrics"])
    line()
    line(f"bundle  {result['bundle']}")
    line(f"next: bertie serve {run}")
