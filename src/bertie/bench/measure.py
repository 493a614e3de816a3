"""Latency, throughput, start, memory and size of a bundle on this machine, measured in a process of its own."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie import errors
from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.probe import Probe
from bertie.errors import BenchError, BertieError
from bertie.scores import Array
from bertie.tokens import Text, TextEncoder

# -P: what lies in the user's folder must not take the place of a library.
WORKER = (sys.executable, "-P", "-m", "bertie.bench.worker")
STARTS = 3
"""Processes whose cold start is measured; the median counts."""
LIMIT_SECONDS = 900.0
"""A worker that takes longer is ended."""

LENGTHS = {"short": 5, "median": 50, "long": 95}
"""The percentile of the texts' token counts that each group of texts stands for."""
SAMPLE = 2000
GROUP = 32
"""Texts in a group, at most; at most a twentieth of all texts, so that the groups stay apart."""
THROUGHPUT_TEXTS, THROUGHPUT_TOKENS = 1024, 8192
"""What one pass of the throughput measurement reads, at most: the same texts for every variant, however slow."""


@dataclass(frozen=True)
class Speed:
    """How fast a bundle answers. Percentiles are over calls with one text; MB are 10^6 bytes."""

    p50_ms: float
    """Over a random sample of the texts, each length as often as it occurs."""
    p99_ms: float
    by_length: dict[str, dict[str, float]]
    """For `short`, `median` and `long`: `tokens`, `p50_ms`, `p99_ms`, `calls`."""
    texts_per_s: float
    """With the best number of texts a call."""
    tokens_per_s: float
    batch: int
    """That number."""
    texts_per_s_by_batch: dict[str, float]
    cold_start_ms: float
    """From the start of the process to its first answer, the files in the system's cache; median of three."""
    peak_mb: float
    """Most resident memory of the process, at any time."""
    bytes: int
    """What of the bundle this variant needs, on disk."""
    texts: int
    """How many texts were drawn to measure with."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, rounded to what a measurement can tell."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return rounded


def scored(
    folder: Path,
    groups: Sequence[Sequence[Text]],
    alone: Sequence[Text] = (),
    *,
    variant: str | None = None,
    threads: int = 0,
) -> tuple[list[Array], Array]:
    """Return the probabilities [texts, labels] of each group of texts, and of texts that are scored one at a time.

    Without a look at the bundle's hashes and probe.
    In a process of its own: an engine that meets an instruction which the processor lacks ends that process alone.
    Raises as `measure` does.
    """
    request: dict[str, Any] = {"folder": str(folder.resolve()), "variant": variant, "threads": threads}
    wanted = {"score": [list(group) for group in groups], "alone": list(alone)}
    answer = ask(request | wanted, limited=False)  # there may be very many texts
    return [np.asarray(scores) for scores in answer["scores"]], np.asarray(answer["alone"])


def measure(
    folder: Path, texts: Sequence[Text] = (), *, variant: str | None = None, threads: int = 0, seconds: float = 1.0
) -> Speed:
    """Measure a bundle on texts like those it will meet; on its probe's eight if there are none.

    `seconds` is the time of each part: latency, and throughput with each number of texts a call; slow models take
    longer. Raises BundleError, RequestInvalid for texts that the model cannot read, and BenchError if the worker dies.
    """
    manifest = Manifest.from_file(folder / FILE)
    needed = size(manifest, variant)
    encoder = TextEncoder.from_file(folder / manifest.input.tokenizer, manifest.limits, manifest.input.pad_id)
    drawn = _drawn(texts or Probe.from_file(folder / manifest.probe).texts)
    tokens = _token_counts(encoder, drawn)
    groups = {name: _near(tokens, percentile) for name, percentile in LENGTHS.items()}
    # The first texts are those of the throughput, the mix is all of them.
    several = max(1, min(THROUGHPUT_TEXTS, int(np.searchsorted(np.cumsum(tokens), THROUGHPUT_TOKENS, side="right"))))
    request: dict[str, Any] = {
        "folder": str(folder.resolve()),
        "variant": variant,
        "threads": threads,
        "groups": {"mix": drawn, **{name: [drawn[row] for row in rows] for name, rows in groups.items()}},
        "texts": drawn[:several],
        "seconds": seconds,
    }
    starts = [ask(request | {"seconds": 0})["cold_start_ms"] for _ in range(STARTS - 1)]
    found = ask(request)
    rates: dict[str, float] = found["texts_per_s"]
    batch = max(rates, key=rates.__getitem__)
    mix = found["latency"].pop("mix")
    return Speed(
        p50_ms=mix["p50_ms"],
        p99_ms=mix["p99_ms"],
        by_length={
            name: {"tokens": float(np.median(tokens[groups[name]])), **values}
            for name, values in found["latency"].items()
        },
        texts_per_s=rates[batch],
        tokens_per_s=rates[batch] * float(tokens[:several].mean()),
        batch=int(batch),
        texts_per_s_by_batch=rates,
        cold_start_ms=statistics.median([*starts, found["cold_start_ms"]]),
        peak_mb=found["peak_mb"],
        bytes=needed,
        texts=len(drawn),
    )


def size(manifest: Manifest, variant: str | None = None) -> int:
    """Return the bytes of the bundle's files without those that only other variants need."""
    return sum(record.bytes for record in manifest.read_for(manifest.variant(variant)).values())


def ask(request: dict[str, Any], worker: Sequence[str] = (), *, limited: bool = True) -> dict[str, Any]:
    """Return what a worker answers, within LIMIT_SECONDS if it is limited.

    Raises the worker's own error, or BenchError if it ends without an answer.
    """
    body = json.dumps(request)
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [*(worker or WORKER), repr(time.monotonic())],
            input=body,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT_SECONDS if limited else None,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"the measurement took more than {LIMIT_SECONDS:.0f} seconds and was ended.",
            hint="measure with shorter texts, or fewer seconds",
        ) from None
    if done.returncode:
        raise _death(done.returncode, done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if error := answer.get("error"):
        kind: type[BertieError] = getattr(errors, error["kind"], BertieError)
        raise kind(error["what"], expected=error["expected"], hint=error["hint"])
    return answer


def _death(code: int, said: str) -> BenchError:
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    if code > 0:
        return BenchError(f"the process that measured ended with exit code {code}: {last[0]}")
    name = signal.Signals(-code)
    hints = {
        signal.SIGILL: "the engine uses an instruction that this processor lacks",
        signal.SIGKILL: "most often the system ends a process like this when memory is short",
    }
    return BenchError(f"the process that measured was ended by {name.name}.", hint=hints.get(name, last[0]))


def _drawn(texts: Sequence[Text]) -> list[Text]:
    """Return a random sample of the texts, in random order: a part of it is one too."""
    random = np.random.default_rng(0)
    rows = random.permutation(len(texts))[:SAMPLE]
    return [texts[int(row)] for row in rows]


def _token_counts(encoder: TextEncoder, texts: Sequence[Text]) -> NDArray[np.int64]:
    """Return the tokens that the model reads of each text: after the cut, over all windows."""
    tokens = encoder.encode(texts)
    return np.bincount(tokens.rows, weights=tokens.lengths, minlength=len(texts)).astype(np.int64)


def _near(tokens: NDArray[np.int64], percentile: float) -> NDArray[np.int64]:
    """Return the texts whose token counts are nearest to a percentile of all counts, by rank."""
    wanted = max(1, min(GROUP, len(tokens) // 20))
    place = round((len(tokens) - 1) * percentile / 100)
    first = min(max(0, place - wanted // 2), len(tokens) - wanted)
    return np.argsort(tokens, kind="stable")[first : first + wanted]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
