"""`bertie import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Quiet, line, put, talk


def import_model(
    model: Annotated[Path, typer.Argument(help="Folder, model.tar.gz or file: .bin, .safetensors or traced .pt.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint and bundle, which is made.", metavar="FOLDER")],
    labels: Annotated[str, typer.Option(help="Names of the outputs in their order, with commas between.")] = "",
    tokenizer: Annotated[str, typer.Option(help="Folder with tokenizer.json or vocab.txt, or a base model.")] = "",
    max_tokens: Annotated[int, typer.Option(min=0, help="Tokens of a text that are read; 0 for all it can.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a bundle of a BERT classifier that another program saved, such as AWS's old sample.

    Weights are read and nothing else: no code in a pickle or a TorchScript file is run.
    """
    from bertie.pipeline.import_model import import_model as run  # noqa: PLC0415 - keeps --help fast

    names = tuple(name.strip() for name in labels.split(",") if name.strip())
    result = run(model, out, talk(quiet=quiet), labels=names, tokenizer=tokenizer, max_tokens=max_tokens)
    if json:
        put(result)
        return
    parity = result["parity"]
    line(f"bundle  {result['bundle']}; labels {', '.join(result['labels'])}")
    line(f"compared on {parity['texts']} texts: probabilities off by at most {parity['max_difference']:.1g}")
    line(f"next: bertie evaluate {out} DATA, then bertie serve {out}")
