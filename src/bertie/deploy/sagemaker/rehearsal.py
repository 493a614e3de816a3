"""The answers of an unpacked artifact on this machine: of a real `bertie serve`, or of the program for AWS's image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from bertie.errors import DependencyMissing, DeployError
from bertie.pipeline.demo import serving

Answer = dict[str, Any]
JSON, LINES = "application/json", "application/jsonlines"
SECONDS = 600
"""Time to load a model and answer the probe."""


def from_server(folder: Path, texts: list[Any]) -> list[Answer]:
    """Ask a `bertie serve` that is started on the folder."""
    with serving(folder) as address:
        body = json.dumps(texts).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is the server that we started
            f"{address}/invocations", data=body, headers={"Content-Type": JSON}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                answers: list[Answer] = json.load(response)
        except (OSError, ValueError) as error:
            raise DeployError(f"the server on the artifact does not answer: {error}.", hint="pack it again") from error
    return answers


def from_program(folder: Path, texts: list[Any]) -> list[Answer]:
    """Ask the folder's `code/inference.py`, called as the toolkits call it, in a process of its own.

    As JSON and as JSON Lines, which must say the same, and something that it must refuse. Raises DeployError,
    DependencyMissing.
    """
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    plain, listed, refused = _call(
        folder,
        [
            {"body": json.dumps(texts), "content_type": JSON, "accept": JSON},
            {"body": lines, "content_type": LINES, "accept": LINES},
            {"body": "{", "content_type": JSON, "accept": JSON},
        ],
    )
    answers: list[Answer] = json.loads(plain["body"])
    if [json.loads(line) for line in listed["body"].splitlines()] != answers or refused["status"] != 400:
        raise DeployError("the program of the artifact does not answer as bertie serve does.", hint="pack it again")
    return answers


def _call(folder: Path, asked: list[dict[str, str]]) -> list[dict[str, Any]]:
    command = [sys.executable, "-P", "-B", str(Path(__file__).with_name("toolkit.py")), str(folder)]
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            input="".join(json.dumps(one) + "\n" for one in asked),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=environment | {"HF_HUB_OFFLINE": "1"},
        )
    except subprocess.TimeoutExpired:
        raise DeployError(f"the program of the artifact took more than {SECONDS} seconds to answer.") from None
    with suppress(ValueError):  # something else that was printed
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if len(answers) == len(asked):
            return answers
    said = done.stderr.strip().splitlines() or ["nothing"]
    if "ModuleNotFoundError" in said[-1] and ("torch" in said[-1] or "transformers" in said[-1]):
        raise DependencyMissing(
            "the program for AWS's image runs PyTorch, which is not installed here.", hint="pip install 'bertie[train]'"
        )
    raise DeployError(
        f"the program of the artifact ended with exit code {done.returncode}: {said[-1][:500]}.", hint="pack it again"
    )
