"""`bertie export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bertie.cli.options import Json, Quiet, line, put, talk
from bertie.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(help="A run with a checkpoint, for example of a training that was stopped.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="For another tool: onnx, openvino, safetensors (for transformers) or torchscript.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the export for another tool, which is made.", metavar="FOLDER")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a run's bundle from its checkpoint, or export it for another tool.

    The bundle, with metrics and report: for a training that was stopped, or to export again. With --to and --out a
    folder that needs no bertie; it is loaded back and compared with the trained model before it is kept.
    """
    if (to is None) != (out is None):
        raise UsageError("--to and --out belong together.", hint=f"bertie export {run} --to onnx --out FOLDER")
    if to is not None and out is not None:
        from bertie.pipeline.convert_run import convert_run  # noqa: PLC0415 - keeps --help fast

        _show_converted(convert_run(run, to, out, talk(quiet=quiet)), json=json)
        return

    from bertie.cli.train import print_metrics  # noqa: PLC0415 - brings train's settings with it
    from bertie.pipeline.train_run import finish  # noqa: PLC0415

    result = finish(run, talk(quiet=quiet))
    if json:
        put(result)
        return
    print_metrics(result["metrics"])
    line()
    line(f"bundle  {result['bundle']}")
    line(f"next: bertie serve {run}")


def _show_converted(result: dict[str, Any], *, json: bool) -> None:
    if json:
        put(result)
        return
    parity = result["parity"]
    line(f"{result['to']}  {result['out']}: {', '.join(result['files'])}; {result['bytes'] / 1e6:.1f} MB")
    line(
        f"compared on {parity['texts']} texts: probabilities off by at most {parity['max_difference']:.1g}, "
        f"{parity['flips']} labels differ"
    )
    line(f"next: see {result['out']}/README.md, which has an example that runs")
