"""A worker for tests of restarts: it counts instead of training, and keeps its state as training does.

    counting.py CHECKPOINT RESULT STEPS SECONDS

In each step every process adds up its part of the step's numbers, and the parts are summed up over all. The leader
alone writes. CHECKPOINT stands for a file on this host's own disk.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bertie.errors import BertieError
from bertie.train.cluster import Cluster, join

FRESH = '{"step": 0, "state": 0.0}'


def state_after(steps: int) -> float:
    """What any number of processes must come to."""
    state = 0.0
    for step in range(steps):
        state = state / 2 + sum(range(step, step + 8))
    return state


def count(cluster: Cluster, checkpoint: Path, result: Path, steps: int, seconds: float) -> None:
    kept: dict[str, Any] = json.loads(checkpoint.read_text() if checkpoint.is_file() else FRESH)
    source, first = cluster.newest(kept["step"])
    state = torch.tensor([kept["state"]], dtype=torch.float64)
    cluster.broadcast(state, source=source)
    say(f"process {cluster.rank} of {cluster.size} begins at step {first}")
    for step in range(first, steps):
        time.sleep(seconds)
        part = torch.tensor([sum(range(step, step + 8)[cluster.rank :: cluster.size])], dtype=torch.float64)
        cluster.sum_up(part)
        state = state / 2 + part
        if cluster.leads:
            beside = checkpoint.with_suffix(".new")
            beside.write_text(json.dumps({"step": step + 1, "state": float(state)}))
            beside.replace(checkpoint)
        if step == first + 10:
            say(f"process {cluster.rank} of {cluster.size} is well on its way from {first}")
    if cluster.leads:
        result.write_text(json.dumps({"state": float(state), "size": cluster.size, "first": first}))


def say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def main() -> None:
    checkpoint, result, steps, seconds = sys.argv[1:]
    cluster = Cluster.from_environment(os.environ)
    try:
        with join(cluster, "cpu"):
            count(cluster, Path(checkpoint), Path(result), int(steps), float(seconds))
    except BertieError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
