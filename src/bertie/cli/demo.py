"""`bertie demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Quiet, line, put, talk
from bertie.cli.train import print_metrics


def demo(
    dir: Annotated[Path, typer.Option("--dir", help="Folder for data, run, bundle and report.")] = Path("demo"),  # noqa: A002
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo there.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do the whole job on sample data.

    Check, train, evaluate, export, serve and ask, on the messages that ship with the package.
    """
    from bertie.pipeline.demo import demo as run  # noqa: PLC0415 - keeps --help fast

    result = run(dir, talk(quiet=quiet), overwrite=overwrite)
    if json:
        put(result)
        return
    print_metrics(result["metrics"])
    line()
    line(f"asked     {result['question']}")
    line(f"answered  {result['answer']['label']} ({result['answer']['score']:.3f})")
    line()
    line(f"run     {result['run']}")
    line(f"bundle  {result['bundle']}")
    line(f"report  {result['report']}")
    line(f"done in {result['seconds']:.0f} s. What to type next:")
    line(f"  bertie predict {result['run']} 'my screen stays black since the update'")
    line(f"  bertie serve {result['run']}")
    line("  bertie train YOUR.csv --out runs/first")
