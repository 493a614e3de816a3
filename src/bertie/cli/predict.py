"""`bertie predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bertie.cli.options import Json, line, put
from bertie.errors import DataNotFound, DataUnreadable, UsageError

if TYPE_CHECKING:
    from bertie.scores import Prediction
    from bertie.tokens import Text  # its module needs numpy, which --help must not wait for

CHUNK = 256
"""Texts predicted at once: memory stays flat however long the input is."""


VARIABLE = "BERTIE_API_KEY"
"""The key of a server that asks for one. A flag would show it in the list of processes."""


def predict(
    model: Annotated[
        str, typer.Argument(help="A run, a bundle, a .tar.gz of a bundle, or a server's address.", show_default=False)
    ],
    text: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, lines of stdin.", show_default=False)
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option("--pair", help="The second text of each pair, as often as there are texts.")
    ] = None,
    input: Annotated[Path | None, typer.Option("--input", help="File with one text a line.", metavar="FILE")] = None,  # noqa: A002
    json: Json = False,
) -> None:
    """Label texts.

    One line for each, the label and its score; with --json one object for each. A server's address is http://HOST:PORT;
    its API key, if it asks for one, is read from BERTIE_API_KEY.
    """
    if text and input:
        raise UsageError("texts come from the command line or from --input, not from both.")
    texts = _pairs(text or [], pair) if pair else iter(text) if text else text_lines(input)
    label = _labelling(model)
    while chunk := list(islice(texts, CHUNK)):
        for prediction in label(chunk):
            if json:
                put(prediction.as_dict())
            else:
                chosen = prediction.label if prediction.labels is None else ", ".join(prediction.labels)
                line(f"{chosen or '(none)'}\t{prediction.score:.4f}")


def _labelling(model: str) -> Callable[[list[Text]], list[Prediction]]:
    """Return what labels texts: a model here, or a server."""
    if model.startswith(("http://", "https://")):
        from bertie.client.http import Client  # noqa: PLC0415 - an extra

        return Client(model, api_key=os.environ.get(VARIABLE)).predict
    from bertie.runtime.classifier import load  # noqa: PLC0415 - keeps --help fast

    return load(Path(model)).predict


def _pairs(texts: list[str], pairs: list[str]) -> Iterator[Text]:
    if len(texts) != len(pairs):
        raise UsageError(f"there are {len(texts)} texts and {len(pairs)} second texts.", expected="as many of each")
    return iter(list(zip(texts, pairs, strict=True)))


def text_lines(path: Path | None) -> Iterator[str]:
    """Yield the lines of a file, or of stdin. Raises DataNotFound, and DataUnreadable for what is not UTF-8."""
    if path is None:
        if sys.stdin.isatty():
            sys.stderr.write("reading texts from the terminal, one a line; end with Ctrl-D\n")
        yield from _decoded(sys.stdin.buffer, "stdin")
        return
    try:
        with path.open("rb") as file:
            yield from _decoded(file, str(path))
    except FileNotFoundError as error:
        raise DataNotFound(f"there is no file {path}.", hint="check the path") from error
    except OSError as error:
        raise DataUnreadable(f"cannot read {path}: {error.strerror}.") from error


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, raw in enumerate(lines, start=1):
        try:
            yield raw.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataUnreadable(f"{name}, line {number}: not UTF-8 text.", hint="convert it to UTF-8") from error
