"""Loads one contestant and measures it: `python -m benchmarks.scoring.worker`, in the contestant's own Python.

Reads `{name, folder, texts, seconds}` as JSON from stdin, and writes its measurements as the last line of stdout.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scoring.contestants import CONTESTANTS

PACKAGES = (
    "bertie",
    "torch",
    "transformers",
    "tokenizers",
    "onnxruntime",
    "openvino",
    "optimum",
    "optimum-onnx",
    "optimum-intel",
    "infinity-emb",
    "nncf",
)


def main() -> None:
    """Answer the request."""
    request = json.load(sys.stdin)
    started = time.perf_counter()
    scorer = CONTESTANTS[request["name"]].load(Path(request["folder"]))
    loaded = time.perf_counter() - started
    texts = request["texts"]
    labels_one = [scorer.one(text) for text in texts]  # also warms it up, in every length that will be measured
    answer: dict[str, Any] = {
        "load_seconds": loaded,
        "latency_us": latency(scorer.one, texts),
        "labels_one": labels_one,
        "passes": {},
        "labels_many": {},
    }
    for size, many in scorer.many.items():
        answer["labels_many"][size] = many(texts)
        answer["passes"][size] = passes(many, texts, request["seconds"])
    answer |= {"peak_mb": peak_mb(), "versions": versions()}
    print(f"\n{json.dumps(answer)}", flush=True)


def latency(one: Callable[[str], str], texts: list[str]) -> list[int]:
    """Return the time of each text by itself, in microseconds."""
    taken = []
    for text in texts:
        before = time.perf_counter()
        one(text)
        taken.append(round(1e6 * (time.perf_counter() - before)))
    return taken


def passes(many: Callable[[list[str]], list[str]], texts: list[str], seconds: float) -> list[float]:
    """Return the seconds a pass over all texts takes, from timings of a second or more each."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        before, count = time.perf_counter(), 0
        while time.perf_counter() - before < 1:
            many(texts)
            count += 1
        found.append((time.perf_counter() - before) / count)
    return found


def peak_mb() -> float:
    """Return the most memory that this process has held, in units of 10^6 bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def versions() -> dict[str, str]:
    """Return the versions of what is installed here."""
    answer = {}
    for name in PACKAGES:
        try:
            answer[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return answer


if __name__ == "__main__":
    main()
    # An engine with threads of its own would keep the process alive.
    import os

    os._exit(0)
