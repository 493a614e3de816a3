"""A million rows: seconds and memory of reading, checking, splitting, writing and tokenizing.

    python -m benchmarks.million_rows [--rows 1000000]

The file is made here: 50 words a row, drawn by Zipf's law from the words of the base's vocabulary; three rows in ten
have an accented word, and every tenth has an emoji, which makes a Python string four times as large. Each contestant
runs in a process of its own, and so does each of Bertie's two runs, the second with the tokens kept by the first. Peak
memory is the kernel's high-water mark of resident memory, with PyTorch imported as in a training. The baseline reads
the file with pyarrow and gives all texts to the transformers tokenizer at once; the ceiling is the tokenizers library
alone, without anything kept. Both see the first rows only (`--part`). The last line of the output is the record, which
also goes to `benchmarks/results/million_rows.json`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from bertie.train.base_models import resolve

RESULT = Path(__file__).parent / "results" / "million_rows.json"
WORDS_A_ROW = 50
ROWS_AT_ONCE = 10_000
LABELS = ("account", "billing", "delivery", "other", "praise", "returns", "technical", "urgent")
ACCENTED = ("café", "naïve", "señor")
EMOJI = "😀"


def vocabulary() -> list[str]:
    """Return the whole words of the base's tokenizer, the commonest first."""
    text = (resolve("minilm").folder / "tokenizer.json").read_text(encoding="utf-8")
    places = json.loads(text)["model"]["vocab"]
    words = [word for word in places if word.isascii() and word.isalpha() and (len(word) > 1 or word in "ai")]
    return sorted(words, key=places.__getitem__)


def lines(rows: int) -> Iterator[str]:
    """Yield the lines of the file, the same ones each time. A word of its own in half the rows tells the label."""
    words = np.array(vocabulary(), dtype=object)
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    random = np.random.default_rng(0)
    yield "text,label\n"
    for start in range(0, rows, ROWS_AT_ONCE):
        size = min(ROWS_AT_ONCE, rows - start)
        texts = words[np.searchsorted(shares / shares[-1], random.random((size, WORDS_A_ROW)))]
        labels = np.array(LABELS, dtype=object)[random.integers(0, len(LABELS), size)]
        texts[::2, 0] = labels[::2]
        texts[::10, 1] = EMOJI
        for place, word in enumerate(ACCENTED):
            texts[place::10, 2] = word
        yield from (f"{' '.join(text)},{label}\n" for text, label in zip(texts.tolist(), labels, strict=True))


class Stages:
    """Seconds and peak memory of one stage after the other, in this process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    def run(self, name: str, work: Callable[..., Any], *given: Any) -> Any:
        """Do the work of a stage; stages inside it are left out of its seconds."""
        inside = sum(self.seconds.values())
        started = time.perf_counter()
        answer = work(*given)
        spent = time.perf_counter() - started - (sum(self.seconds.values()) - inside)
        self.seconds[name] = self.seconds.get(name, 0.0) + spent
        self.peaks[name] = max(self.peaks.get(name, 0), peak())
        return answer

    def __call__(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work` as a stage."""
        return lambda *given: self.run(name, work, *given)


def peak() -> int:
    """Return the most bytes this process has held at once since the last call; since its start where that is unknown.

    Neither contestant starts other processes. `ru_maxrss` would count the parent's memory too.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        print("peaks are those since the start of the process", file=sys.stderr)
    return int(found[1]) * 1024 if found else 0


def bertie(data: Path, work: Path, _: int) -> dict[str, Any]:
    """Do what `bertie train` does up to the first update."""
    stages = Stages()
    stages.run("import", _imports)
    from bertie.config import DataSettings, SplitSettings, TrainSettings
    from bertie.pipeline import load_data
    from bertie.talk import Talk
    from bertie.token_cache import TokenCache, encoded
    from bertie.train.limits import text_encoder, text_limits

    # The stages of load_splits, which looks them up by these names.
    for name in ("read", "check", "split"):
        setattr(load_data, name, stages(name, getattr(load_data, name)))
    talk = Talk()
    base = resolve("minilm")
    encoder = text_encoder(base, text_limits(base, TrainSettings()))
    given = (data, None, None, DataSettings(), SplitSettings(), talk)
    splits = stages.run("other checks", load_data.load_splits, *given)
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    stages.run("fingerprint", lambda: splits.fingerprint)
    for name, part in parts.items():
        stages.run("write", part.write, work / f"{name}.jsonl")
    cache = TokenCache.usual(talk)
    tokens = [stages.run("tokenize", encoded, encoder, part.texts, cache) for part in (splits.train, splits.valid)]
    stages.run("touch all tokens", lambda: [int(part.ids.sum() + part.types.sum()) for part in tokens])
    texts = sum(len(part.truncated) for part in tokens)
    return _answer(stages, texts=texts, tokens=sum(len(part.ids) for part in tokens))


def _imports() -> None:
    for name in ("bertie.pipeline.train_run", "bertie.train.train", "bertie.export.export"):
        importlib.import_module(name)


def transformers(data: Path, _: Path, part: int) -> dict[str, Any]:
    """Do what is usually written: all rows as a table, all texts to the tokenizer at once."""
    stages = Stages()
    stages.run("import", _imports_of_baseline)
    from pyarrow import csv
    from transformers import AutoTokenizer

    table = stages.run("read", csv.read_csv, data).slice(0, part)
    texts = stages.run("to Python", table["text"].to_pylist)
    tokenizer = AutoTokenizer.from_pretrained(resolve("minilm").folder)
    encoded = stages.run("tokenize", lambda: tokenizer(texts, truncation=True, max_length=512))
    return _answer(stages, texts=len(texts), tokens=sum(map(len, encoded["input_ids"])))


def _imports_of_baseline() -> None:
    for name in ("pyarrow.csv", "torch", "transformers"):
        importlib.import_module(name)


def ceiling(data: Path, _: Path, part: int) -> dict[str, Any]:
    """Tokenize on all cores, and throw the tokens away."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(resolve("minilm").folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    with data.open(encoding="utf-8") as file:
        texts = [line.rpartition(",")[0] for line in islice(file, 1, part + 1)]
    stages = Stages()
    for start in range(0, len(texts), 4096):
        stages.run("tokenize", tokenizer.encode_batch_fast, texts[start : start + 4096])
    return _answer(stages, texts=len(texts), bytes=sum(len(text.encode()) for text in texts))


def _answer(stages: Stages, **counts: int) -> dict[str, Any]:
    peaks = {name: round(value / 1e6) for name, value in stages.peaks.items()}
    return {
        **counts,
        "seconds": {name: round(value, 2) for name, value in stages.seconds.items()},
        "peak_mb": peaks,
        "peak_mb_of_all": max(peaks.values()),
        "texts_per_s": round(counts["texts"] / stages.seconds["tokenize"]),
    }


CONTESTANTS = {"bertie": bertie, "transformers": transformers, "ceiling": ceiling}


def child(name: str, data: Path, work: Path, part: int) -> dict[str, Any]:
    """Run a contestant in a process of its own."""
    work.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.million_rows", "--contestant", name, "--data", data, "--work", work]
    environment = os.environ | {"BERTIE_CACHE": str(work / "cache")}
    done = subprocess.run(
        [*map(str, command), "--part", str(part)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(name, json.dumps(answer), file=sys.stderr, flush=True)
    return answer


def main() -> None:
    """Make the file, run all contestants one after the other, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--part", type=int, default=100_000, help="rows that the baseline and the ceiling see")
    parser.add_argument("--contestant", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        print(json.dumps(CONTESTANTS[given.contestant](given.data, given.work, given.part)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work, data = Path(folder), Path(folder) / "rows.csv"
        started = time.perf_counter()
        with data.open("w", encoding="utf-8") as file:
            file.writelines(lines(given.rows))
        record: dict[str, Any] = {
            "benchmark": "million_rows",
            "machine": describe(),
            "rows": given.rows,
            "part": given.part,
            "file_mb": round(data.stat().st_size / 1e6),
            "generate_seconds": round(time.perf_counter() - started, 1),
        }
        runs = {"first": "bertie", "second": "bertie", "transformers": "transformers", "ceiling": "ceiling"}
        record["runs"] = {
            run: child(contestant, data, work / contestant, given.part) for run, contestant in runs.items()
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
