"""`bertie serve` in a process of its own, with flags and an environment, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Running:
    """A server that is ready."""

    process: subprocess.Popen[str]
    told: dict[str, Any]
    errors: Path

    @property
    def url(self) -> str:
        return str(self.told["url"])

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def said(self) -> str:
        return self.errors.read_text(encoding="utf-8")


@contextmanager
def running(
    bundle: Path, folder: Path, *flags: object, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a server on a free port; `folder` takes what it says on stderr."""
    errors = folder / "stderr.txt"
    command = [sys.executable, "-m", "bertie", "serve", str(bundle), "--port", "0", "--json", *map(str, flags)]
    with errors.open("w") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, env=os.environ | (environment or {})
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line, errors.read_text()
        yield Running(process, json.loads(line), errors)
    finally:
        process.terminate()
        process.wait(40)
        if process.stdout:
            process.stdout.close()
