"""The entry point of the image: `serve`, `train`, or any words that `bertie` knows.

SageMaker starts an image with `serve` or `train`, and sends SIGTERM to its first process. That one therefore becomes
the server: a parent in between would have to pass the signal on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from bertie.errors import BertieError, DependencyMissing

MODEL = "/opt/ml/model"
"""Where SageMaker puts the model, and where an image has the bundle that is baked into it."""


def main(words: Sequence[str]) -> None:
    """Do what the words say; without any, serve."""
    if words[:1] == ["train"]:
        train()
    elif not words or words[0] == "serve":
        become(["serve", *serving(words[1:], os.environ)])
    else:
        become(words)


def serving(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the words for `bertie serve`: the model at its usual place, reached from outside the container.

    Words that name other models, as any first word that is no option does, are kept instead.
    """
    named = bool(words) and not words[0].startswith("-")
    several = environment.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true"
    models = [] if named or several else [MODEL]
    # The port is left to the settings: SAGEMAKER_BIND_TO_PORT may name another than 8080, and a flag would win over it.
    host = [] if "BERTIE_SERVE_HOST" in environment else ["--host", "0.0.0.0"]  # noqa: S104 - a container's own network
    return [*models, *host, *words]


def train() -> None:
    """Train as SageMaker asks for it. Raises DependencyMissing in an image that only serves."""
    if find_spec("torch") is None:
        raise DependencyMissing(
            "this image serves models and cannot train one: PyTorch is not in it.",
            hint="bertie deploy docker BUNDLE --with-training makes an image that does both",
        )
    import_module("bertie.deploy.container.train").main()


def become(words: Sequence[str]) -> NoReturn:
    """Put `bertie` in the place of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "bertie", *words])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BertieError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
