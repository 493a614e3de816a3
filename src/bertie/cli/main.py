"""`bertie`: the verbs in the order of the pipeline, and how errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bertie.cli import (
    bench,
    check,
    demo,
    deploy,
    distill,
    evaluate,
    export,
    import_model,
    optimize,
    predict,
    serve,
    train,
)
from bertie.errors import BertieError
from bertie.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From labelled texts to a fast, checked text classifier in production.\n\n"
    "check the data -> train -> evaluate -> optimize -> predict / serve -> deploy. Try `bertie demo` first.",
)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("distill")(distill.distill)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("import")(import_model.import_model)
app.command("optimize")(optimize.optimize)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.command("bench")(bench.bench)
app.add_typer(deploy.app, name="deploy")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"bertie {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the options that stand before a verb."""


def run() -> None:
    """Run the command line. Every error of ours ends as sentences on stderr and the exit code of errors.py."""
    try:
        app()
    except BertieError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
