"""Flags made from the settings, and what all commands share.

A setting is written once, in config.py; its sentence is the help of its flag.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any

import typer

from bertie.settings import Settings
from bertie.talk import Talk

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines to stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file, bertie.toml if not given.", metavar="FILE")
]
Model = Annotated[Path, typer.Argument(help="A run, a bundle, or a .tar.gz of a bundle.", show_default=False)]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for each field of the Settings among its parameters, and `--config`.

    The command is called with settings merged from defaults, file, environment and flags.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    own, models = {}, {}
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, Settings):
            models[name] = hint
        else:
            own[name] = parameter.replace(annotation=hint)
    flags = {flag.name: flag for model in models.values() for flag in _flags(model)}
    config = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)

    @functools.wraps(command)
    def called(**given: Any) -> None:
        file = given.pop("config")
        built = {
            name: model.load(
                {field: given[field] for field in model.model_fields if given[field] is not None}, file=file
            )
            for name, model in models.items()
        }
        command(**{name: given[name] for name in own}, **built)

    parameters = sorted([*own.values(), *flags.values(), config], key=lambda parameter: parameter.kind)
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect reads
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _flags(model: type[Settings]) -> list[inspect.Parameter]:
    parameters = []
    for name, field in model.model_fields.items():
        flag = "--" + name.replace("_", "-")
        names = [f"{flag}/--no-{name.replace('_', '-')}"] if field.annotation is bool else [flag]
        default = "" if field.default in (None, "") else f"  [default: {field.default}]"
        option = typer.Option(*names, help=f"{field.description}{default}", show_default=False)
        annotation: Any = field.annotation
        if not isinstance(annotation, UnionType):
            annotation = annotation | None
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation, option]
            )
        )
    return parameters


def talk(*, quiet: bool) -> Talk:
    """Return the voice of a command."""
    return Talk(quiet=quiet)


def put(data: Any) -> None:
    """Write one JSON document to stdout, on one line."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, default=str) + "\n")


def line(text: str = "") -> None:
    """Write one line for people to stdout."""
    sys.stdout.write(text + "\n")


def table(head: list[str], rows: list[list[str]]) -> None:
    """Write a table for people to stdout, in plain columns."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    for row in [head, *rows]:
        line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
