"""A contestant's server, ready and warm, and loads upon it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.scoring.environments import python_of
from benchmarks.serving.contestants import CONTESTANTS, Contestant, bodies
from benchmarks.serving.load import Plan, found
from benchmarks.serving.process import Failed, Server, free_port, running

ROOT = Path(__file__).parents[2]
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}

REST_SECONDS, AT_ONCE_SECONDS = 300.0, 0.2


@dataclasses.dataclass
class Session:
    """A server, and what it says of each text that is alone."""

    contestant: Contestant
    server: Server
    bodies: list[str]
    labels: list[str] = dataclasses.field(default_factory=list)
    seed: int = 0

    def learn(self) -> None:
        """Ask for each text by itself, and keep the labels; it warms the server up too. Raises Failed."""
        for body in self.bodies:
            status, raw = self.server.ask(self.contestant.path, body)
            if status != 200:
                raise Failed(f"status {status} for a single request: {raw[:200].decode(errors='replace')}")
            self.labels.append(str(found(json.loads(raw), self.contestant.answer)))

    def load(self, rate: float, seconds: float, *, even: bool = False) -> dict[str, Any]:
        """Return the report of a load, with the CPU microseconds of a request on either side."""
        self.seed += 2
        self._rest()
        plan = Plan(
            port=self.server.port,
            path=self.contestant.path,
            bodies=self.bodies,
            labels=[[label] for label in self.labels],
            rate=rate,
            seconds=seconds,
            answer=self.contestant.answer,
            even=even,
            seed=self.seed,
        )
        before = self.server.sample()
        command = [sys.executable, "-m", "benchmarks.serving.load"]
        request = json.dumps(dataclasses.asdict(plan))
        done = subprocess.run(command, input=request, capture_output=True, text=True, check=True, cwd=ROOT)
        report: dict[str, Any] = json.loads(done.stdout)
        after = self.server.sample()
        taken = {"server_us": after["cpu_seconds"] - before["cpu_seconds"], "load_us": report["cpu_seconds"]}
        time.sleep(0.5)
        return report | {name: 1e6 * value / max(1, report["sent"]) for name, value in taken.items()}

    def _rest(self) -> None:
        """Wait until what an earlier load has left is worked off, and a request is answered at once. Raises Failed."""
        end = time.monotonic() + REST_SECONDS
        while time.monotonic() < end:
            begun = time.monotonic()
            self.server.ask(self.contestant.path, self.bodies[0])
            if time.monotonic() - begun < AT_ONCE_SECONDS:
                return
        raise Failed(f"it has not come to rest {REST_SECONDS:g} seconds after a load")


@contextmanager
def opened(
    name: str, work: Path, folders: dict[str, Path], texts: list[str], given: argparse.Namespace
) -> Iterator[Session]:
    """Start a contestant, warm it up, and stop it at the end. Raises CannotInstall or Failed."""
    one = CONTESTANTS[name]
    python = python_of(one.environment, given.environments or work / "environments")
    folder = work / "serve" / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = one.command(python, folders[one.model], folder, port)
    ours = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    if not one.environment:
        command += given.serve
    asked = bodies(one, texts)
    environ = QUIET | (one.environ if one.environment else ours)
    with running(command, port, (one.path, asked[0]), folder / "log", environ) as server:
        session = Session(one, server, asked)
        session.learn()
        yield session
