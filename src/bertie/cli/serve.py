"""`bertie serve`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bertie.cli.options import Json, Quiet, put, talk, with_settings
from bertie.config import ServeSettings
from bertie.errors import UsageError, need

SHAPES = "BUNDLE, NAME=BUNDLE, or NAME=BUNDLE_A:90,BUNDLE_B:10"
Models = Annotated[
    list[str] | None, typer.Argument(help="Runs, bundles or .tar.gz of them, with names where there are several.")
]


@with_settings
def serve(settings: ServeSettings, models: Models = None, json: Json = False, quiet: Quiet = False) -> None:
    """Serve a model, or several, over HTTP.

    GET /ping, POST /invocations, GET /docs. Further models have names, NAME=BUNDLE, and are asked under
    /v2/models/NAME. NAME=BUNDLE_A:90,BUNDLE_B:10 shares the requests for a name between two.
    """
    if not models and settings.model_store is None:
        raise UsageError("there is nothing to serve.", expected=SHAPES, hint="or give --model-store FOLDER")
    try:
        from bertie.serve.checks import check  # noqa: PLC0415 - as the next ones

        if settings.workers > 1:
            from bertie.serve.workers.supervisor import supervise as run  # noqa: PLC0415 - keeps --help fast
        else:
            from bertie.serve.server import serve as run  # noqa: PLC0415 - an extra, and keeps --help fast
    except ImportError as error:
        raise need("serve", error) from error
    check(settings)
    if quiet:
        settings = settings.model_copy(update={"log_level": "error"})
    # Whoever reads lines of JSON wants no others between them.
    voice = talk(quiet=quiet or settings.log_format == "json")

    def announce(address: str, grpc_port: int | None) -> None:
        if json:
            put({"url": address} | ({"grpc_port": grpc_port} if grpc_port else {}))
            sys.stdout.flush()
        also = f", gRPC on port {grpc_port}" if grpc_port else ""
        voice.say(f"ready on {address}{also}; open it in a browser, or try")
        key = " -H 'Authorization: Bearer KEY'" if settings.api_keys or "BERTIE_API_KEYS" in os.environ else ""
        voice.say(f"  curl {address}/invocations{key} -d '\"your text\"'")
        voice.say("stop with Ctrl-C")

    run(models or [], settings, announce=announce)
