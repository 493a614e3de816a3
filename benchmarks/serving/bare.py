"""Bertie's runtime without a server: what answering costs before HTTP, and how much it answers in batches.

`python -m benchmarks.serving.bare` reads `{folder, texts, rate, seconds}` as JSON from stdin.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.serving.load import figures


def main() -> None:
    """Measure single texts, evenly spaced as the server gets them, and back to back; and all texts in batches."""
    from bertie import load

    request = json.load(sys.stdin)
    texts: list[str] = request["texts"]
    classifier = load(request["folder"])
    classifier.warm()
    labels = [classifier.predict([text])[0].label for text in texts]
    paced, close = [], []
    due = time.perf_counter()
    for number in range(int(request["rate"] * request["seconds"])):
        due += 1 / request["rate"]
        time.sleep(max(0.0, due - time.perf_counter()))
        before = time.perf_counter()
        classifier.predict([texts[number % len(texts)]])
        paced.append(time.perf_counter() - before)
    for text in texts:
        before = time.perf_counter()
        classifier.predict([text])
        close.append(time.perf_counter() - before)
    passes: list[float] = []
    end = time.perf_counter() + request["seconds"]
    while time.perf_counter() < end:
        before = time.perf_counter()
        classifier.predict(texts)
        passes.append(time.perf_counter() - before)
    answer: dict[str, Any] = {
        "labels": labels,
        "paced_ms": figures(1e3 * np.asarray(paced)),
        "close_ms": figures(1e3 * np.asarray(close)),
        "texts_per_s": len(texts) / float(np.median(passes)),
    }
    print(f"\n{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)  # an engine with threads of its own would keep the process alive
