"""The process that loads a bundle and measures it: `python -m bertie.bench.worker STARTED`.

Reads one request as JSON from stdin and writes one line of JSON to stdout. STARTED is `time.monotonic()` just before
the process was started. Each measurement has a process of its own, so that memory is that of the model alone, a start
is a real one, and a model that kills its process is a result. Never imports PyTorch.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bertie.bundle.manifest import FILE, Manifest
from bertie.errors import BertieError
from bertie.runtime.classifier import Classifier, from_folder, load
from bertie.tokens import Text

WARM_UP = 3
LEAST_CALLS, MOST_CALLS = 100, 5000
"""Calls of each group of texts: below a hundred there is no 99th percentile."""
TEXTS_A_CALL = (1, 8, 32)
"""Throughput is measured with calls of so many texts, and with one of all texts."""


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    try:
        answer = scored(request) if "score" in request else measured(request, started=float(sys.argv[1]))
    except BertieError as error:
        parts = {"what": error.what, "expected": error.expected, "hint": error.hint}
        answer = {"error": {"kind": type(error).__name__, **parts}}
    # On a line of its own, whatever a library has printed before.
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def scored(request: dict[str, Any]) -> dict[str, Any]:
    """Return the probabilities that the bundle `folder` gives as it is.

    As `scores` those of the texts of each group in `score`, and as `alone` those of texts scored one at a time, by what
    a server has made for single texts by then.
    """
    folder = Path(request["folder"])
    manifest = Manifest.from_file(folder / FILE)
    variant = manifest.variant(request["variant"])
    classifier = from_folder(folder, manifest, variant, threads=request["threads"])
    scores = [classifier.predict_proba(_texts(group)).tolist() for group in request["score"]]
    classifier.warm()
    return {
        "scores": scores,
        "alone": [classifier.predict_proba([text])[0].tolist() for text in _texts(request["alone"])],
    }


def measured(request: dict[str, Any], *, started: float) -> dict[str, Any]:
    """Load the bundle `folder` as `variant` with `threads`, and measure it on `groups` and `texts` for `seconds`.

    Returns `cold_start_ms`; and, unless `seconds` is 0, `latency` by group, `texts_per_s` by texts a call, `peak_mb`.
    """
    groups = {name: _texts(group) for name, group in request["groups"].items()}
    classifier = load(request["folder"], variant=request["variant"], threads=request["threads"])
    classifier.predict(groups["median"][:1])
    answer: dict[str, Any] = {"cold_start_ms": 1e3 * (time.monotonic() - started)}
    if seconds := request["seconds"]:
        classifier.warm()  # as a server does before it is ready
        answer["latency"] = latency(classifier, groups, seconds)
        answer["texts_per_s"] = throughput(classifier, _texts(request["texts"]), seconds)
        answer["peak_mb"] = peak_mb()
    return answer


def latency(classifier: Classifier, groups: dict[str, list[Text]], seconds: float) -> dict[str, dict[str, float]]:
    """Return for each group the percentiles, in milliseconds, of one call with one text.

    The groups take turns, so that whatever else the machine does slows them all alike.
    """
    for texts in groups.values():
        for text in texts[:WARM_UP]:
            classifier.predict([text])
    taken: dict[str, list[float]] = {name: [] for name in groups}
    end = time.perf_counter() + seconds
    for turn in range(MOST_CALLS):
        if turn >= LEAST_CALLS and time.perf_counter() > end:
            break
        for name, texts in groups.items():
            text = texts[turn % len(texts)]
            before = time.perf_counter()
            classifier.predict([text])
            taken[name].append(1e3 * (time.perf_counter() - before))
    answer = {}
    for name, milliseconds in taken.items():
        p50, p99 = np.percentile(milliseconds, [50, 99])
        answer[name] = {"p50_ms": float(p50), "p99_ms": float(p99), "calls": len(milliseconds)}
    return answer


def throughput(classifier: Classifier, texts: list[Text], seconds: float) -> dict[str, float]:
    """Return texts a second by the number of texts in a call: the median over passes through all the texts.

    The numbers take turns like the groups of `latency`, until each has had `seconds`, and one pass at least.
    """
    sizes = sorted({*(size for size in TEXTS_A_CALL if size < len(texts)), len(texts)}, reverse=True)
    for size in sizes:
        classifier.predict(texts[:size])
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    end = time.perf_counter() + seconds * len(sizes)
    while not taken[sizes[-1]] or time.perf_counter() < end:
        for size in sizes:
            before = time.perf_counter()
            for start in range(0, len(texts), size):
                classifier.predict(texts[start : start + size])
            taken[size].append(time.perf_counter() - before)
    return {str(size): len(texts) / float(np.median(passes)) for size, passes in taken.items()}


def peak_mb() -> float:
    """Return the most memory that this process has held, in units of 10^6 bytes.

    VmHWM begins with the program; ru_maxrss, all that systems without it have, also counts the process that started
    this one.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))):
        return int(found[1]) * 1024 / 1e6
    import resource  # noqa: PLC0415 - there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _texts(values: list[Any]) -> list[Text]:
    return [tuple(value) if isinstance(value, list) else value for value in values]


if __name__ == "__main__":
    main()
