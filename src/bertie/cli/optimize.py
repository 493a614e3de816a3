"""`bertie optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Model, Quiet, line, put, table, talk, with_settings
from bertie.config import DataSettings, OptimizeSettings


@with_settings
def optimize(
    model: Model,
    settings: OptimizeSettings,
    data_settings: DataSettings,
    out: Annotated[Path, typer.Option(help="Folder of the bundle, which is made.", metavar="BUNDLE")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled texts that the model has not learned from; a run has kept some.", metavar="FILE"),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Texts like those to come, without labels, for int8; a run has its own.", metavar="FILE"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there already.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the fastest variant that predicts the same.

    Tries engines and number formats on this machine and keeps the best that holds the accuracy contract.
    """
    from bertie.pipeline.optimize_model import Request, optimize_model  # noqa: PLC0415 - keeps --help fast

    result = optimize_model(Request(model, out, settings, data, data_settings, calibrate, overwrite), talk(quiet=quiet))
    if json:
        put(result)
        return
    columns = _COLUMNS | (_COST if any("cost_per_million" in one for one in result["candidates"]) else {})
    rows = [
        [
            one["name"] + (" *" if one["name"] == result["chosen"] else ""),
            *(_figure(one, name, form) for name, form in columns.values()),
            "yes" if one["accepted"] else one["why"],
        ]
        for one in result["candidates"]
    ]
    table(["candidate", *columns, "accepted"], rows)
    line()
    line(f"* chosen for {result['goal']}")
    line(f"bundle  {result['out']}")
    line(f"report  {result['report']}")
    line(f"next: bertie serve {result['out']}")


_COLUMNS = {
    "p50 ms": ("p50_ms", ".2f"),
    "p99 ms": ("p99_ms", ".2f"),
    "texts/s": ("texts_per_s", ".0f"),
    "MB": ("bytes", ".0f"),
    "agree": ("agreement", ".4f"),
}

_COST = {"$ a million": ("cost_per_million", ".2f")}


def _figure(one: dict[str, object], name: str, form: str) -> str:
    value = one.get(name)
    if not isinstance(value, int | float):
        return ""
    return format(value / 1e6 if name == "bytes" else value, form)
