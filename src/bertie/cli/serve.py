"""`bertie serve`."""

from __future__ import annotations

import sys

from bertie.cli.options import Json, Model, Quiet, put, talk, with_settings
from bertie.config import ServeSettings
from bertie.errors import need


@with_settings
def serve(model: Model, settings: ServeSettings, json: Json = False, quiet: Quiet = False) -> None:
    """Serve a model over HTTP.

    GET /ping, POST /invocations, GET /docs.
    """
    try:
        from bertie.serve.server import serve as run  # noqa: PLC0415 - an extra, and keeps --help fast
    except ImportError as error:
        raise need("serve", error) from error
    voice = talk(quiet=quiet)

    def announce(address: str) -> None:
        if json:
            put({"url": address})
            sys.stdout.flush()
        voice.say(f"ready on {address}; open it in a browser, or try")
        voice.say(f"  curl {address}/invocations -d '\"your text\"'")
        voice.say("stop with Ctrl-C")

    run(model, settings, announce=announce)
