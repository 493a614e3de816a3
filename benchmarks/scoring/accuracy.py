"""Whether the chosen variants hold the accuracy contract: on CoLA, on the sample set and on long texts."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from bertie import samples

COLUMNS = ("--no-header", "--text-column", "3", "--label-column", "1")
LONG_TOKENS = 300, 500
LONG_ROWS = {"train": 400, "valid": 120, "test": 240}
KEPT = ("name", "accepted", "skipped", "why", "metric", "drop", "agreement", "flips", "p50_ms", "texts_per_s", "bytes")


def bertie(*arguments: object) -> dict[str, Any]:
    """Run a command of Bertie's, and return what it prints as JSON."""
    command = [sys.executable, "-m", "bertie", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def train_cola(folder: Path, run: Path) -> None:
    """Train on CoLA with the defaults."""
    bertie("train", folder / "in_domain_train.tsv", *COLUMNS, "--out", run)


def optimize(run: Path, out: Path, goal: str, *flags: object) -> dict[str, Any]:
    """Optimize a run for a goal; return the choice and, for each candidate, how it holds the contract."""
    found = bertie("optimize", run, "--out", out, "--goal", goal, "--overwrite", *flags)
    candidates = [{name: one.get(name) for name in KEPT} for one in found["candidates"]]
    return {"chosen": found["chosen"], "texts": found["texts"], "candidates": candidates}


def sets(work: Path, cola: Path) -> dict[str, dict[str, Any]]:
    """Return, by set and goal, what optimize chose and why; a run on CoLA is there already."""
    runs = {"CoLA": cola, "sample set": work / "run-sample", "long texts, in windows": work / "run-windows"}
    files = {name: samples.path(name) for name in ("train", "valid", "test")}
    longs = {name: long_texts(file, work / f"long-{name}.csv", LONG_ROWS[name]) for name, file in files.items()}
    _train(files, runs["sample set"])
    _train(longs, runs["long texts, in windows"], "--long", "windows", "--max-tokens", 128)
    found = {name: optimize(run, work / f"{run.name}-latency", "latency") for name, run in runs.items()}
    return {name: {"latency": of, "throughput": of | {"chosen": _fastest(of)}} for name, of in found.items()}


def _fastest(found: dict[str, Any]) -> str:
    """Return the candidate that --goal throughput chooses from the same measurements."""
    accepted = [one for one in found["candidates"] if one["accepted"]]
    return str(max(accepted, key=lambda one: one["texts_per_s"])["name"])


def long_texts(source: Path, target: Path, rows: int, seed: int = 0) -> Path:
    """Write texts of some 300 to 500 tokens, each of several messages of one label, drawn from a file of messages."""
    chance = random.Random(seed)  # noqa: S311 - draws texts, not secrets
    by_label: dict[str, list[str]] = {}
    with source.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_label.setdefault(row["label"], []).append(row["text"])
    labels = sorted(by_label)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for row in range(rows):
            label = labels[row % len(labels)]
            # A token of such messages has some 3.6 characters.
            most = 3.6 * chance.uniform(*LONG_TOKENS)
            messages = by_label[label][:]
            chance.shuffle(messages)
            taken, length = [], 0
            while messages and length < most:
                taken.append(messages.pop())
                length += len(taken[-1]) + 1
            writer.writerow((" ".join(taken), label))
    return target


def _train(files: dict[str, Path], run: Path, *options: object) -> None:
    if not (run / "bundle").is_dir():
        bertie("train", files["train"], "--valid", files["valid"], "--test", files["test"], "--out", run, *options)
