"""Which training settings are good first choices: today's, and one changed at a time, over several seeds.

    python -m benchmarks.defaults --data PATH/cola_public_1.1.zip --seeds 3

The sets: CoLA as published; the sample messages; and a many-class set made from these, in which each label is cut into
four by k-means over tf-idf, so that 32 classes have some twenty messages each. Every trial chooses its checkpoint on
validation rows and is measured on rows that it has not seen (CoLA: both development files; samples: the test file).
The record in `benchmarks/results/defaults.json` is written after each trial, and what it holds is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.train import DEVS, SETTINGS
from bertie.config import DataSettings, TrainSettings
from bertie.data.examples import Examples, read
from bertie.data.split import split
from bertie.evaluate.headline import headline
from bertie.samples import path
from bertie.talk import Talk
from bertie.train.base_models import resolve

RESULT = Path(__file__).parent / "results" / "defaults.json"
PARTS = 4

LARGE: dict[str, Any] = {"batch_size": 64, "max_passes": 5}
SMALL: dict[str, Any] = {"batch_size": 16, "max_passes": 12}

ONE_AT_A_TIME: list[dict[str, Any]] = [
    {},
    {"learning_rate": 2e-4},
    {"learning_rate": 5e-5},
    {"warmup_share": 0.0},
    {"schedule": "cosine"},
    {"schedule": "constant"},
    {"weight_decay": 0.1},
    {"dropout": 0.0},
    {"freeze_embeddings": False},
]

TRIALS: dict[str, list[dict[str, Any]]] = {
    "CoLA": [*(LARGE | changed for changed in ({"max_passes": 3}, {"batch_size": 32}, *ONE_AT_A_TIME))],
    "samples": [*(SMALL | changed for changed in ({"batch_size": 32}, {"max_passes": 20}, *ONE_AT_A_TIME))],
    "many-class": [*(SMALL | changed for changed in ({"batch_size": 32}, {"max_passes": 20}, *ONE_AT_A_TIME))],
}
"""What `bertie train` chooses by itself for a set of that size, and one setting changed at a time."""

Parts = tuple[Examples, Examples, dict[str, Examples]]


def cola(archive: Path, seed: int) -> Parts:
    """Return CoLA's training rows, 5 % of them for validation, and the development files."""
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(archive) as files:
            files.extractall(place)
        raw = Path(place) / "cola_public" / "raw"
        train, valid = split(read(raw / "in_domain_train.tsv", SETTINGS), (0.05,), seed)
        return train, valid, {name: read(raw / file, SETTINGS) for name, file in DEVS.items()}


def samples() -> Parts:
    """Return the sample messages."""
    train, valid, test = (read(path(name), DataSettings()) for name in ("train", "valid", "test"))
    return train, valid, {"test": test}


def many_class() -> Parts:
    """Return the sample messages with each label cut into PARTS by what the messages are about."""
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, valid, measured = samples()
    parts = (train, valid, measured["test"])
    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit([str(text) for text in train.texts])
    for label in train.label_names():
        rows = [[row for row, (name,) in enumerate(part.labels) if name == label] for part in parts]
        vectors = [
            vectorizer.transform([str(part.texts[row]) for row in of]) for part, of in zip(parts, rows, strict=True)
        ]
        means = KMeans(PARTS, random_state=0, n_init=10).fit(vectors[0])
        for part, of, found in zip(parts, rows, vectors, strict=True):
            for row, number in zip(of, means.predict(found), strict=True):
                part.labels[row] = (f"{label}-{number}",)
    return train, valid, measured


def trial(parts: Parts, wanted: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train once and measure; return headline metrics by measured file, passes and seconds."""
    import torch

    from bertie.scores import chosen, probabilities
    from bertie.train.checkpoint import load as load_checkpoint
    from bertie.train.forward import Padded, logits_of
    from bertie.train.job import Job
    from bertie.train.limits import text_encoder, text_limits
    from bertie.train.train import train

    settings = TrainSettings.load({**wanted, "checkpoint_minutes": 0}, environment={})
    base = resolve(settings.base)
    encoder = text_encoder(base, text_limits(base, settings))
    with tempfile.TemporaryDirectory() as place:
        job = Job(Path(place), base, encoder, parts[0], parts[1], parts[0].label_names(), settings, seed)
        fitted = train(job, Talk(quiet=True))
        forward = Padded(load_checkpoint(fitted.checkpoint), torch.device("cpu"), encoder.pad_id)
        answer: dict[str, Any] = {"passes": fitted.passes, "updates": fitted.updates, "seconds": fitted.seconds}
        for name, measured in parts[2].items():
            picked = chosen(
                probabilities(logits_of(forward, encoder.encode(measured.texts), 8192), job.decision), job.decision
            )
            answer[name] = headline(measured.targets(job.labels), picked, single=True)
    return answer


def begin() -> None:
    """Let a process use one core: several trials side by side get more done than one on all cores."""
    import torch

    torch.set_num_threads(1)


def measured(cola_file: Path, name: str, wanted: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return a trial as it stands in the record."""
    parts = cola(cola_file, seed) if name == "CoLA" else samples() if name == "samples" else many_class()
    return {"set": name, "settings": wanted, "seed": seed} | trial(parts, wanted, seed)


def key(name: str, wanted: dict[str, Any], seed: int) -> str:
    """Return what tells one trial from another."""
    return json.dumps([name, wanted, seed], sort_keys=True)


def main() -> None:
    """Run what the record lacks, seed by seed, and write the record after each trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=list(TRIALS))
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    done: list[dict[str, Any]] = json.loads(RESULT.read_text())["trials"] if RESULT.is_file() else []
    known = {key(one["set"], one["settings"], one["seed"]) for one in done}
    wanted = [
        (name, TRIALS[name][number], seed)
        for seed in range(given.seeds)
        for number in range(max(map(len, TRIALS.values())))
        for name in given.sets
        if number < len(TRIALS[name]) and key(name, TRIALS[name][number], seed) not in known
    ]
    with ProcessPoolExecutor(given.processes, get_context("spawn"), begin) as pool:
        for running in as_completed([pool.submit(measured, given.data, *one) for one in wanted]):
            done.append(running.result())
            RESULT.write_text(json.dumps({"machine": describe(), "trials": done}, indent=1) + "\n")
            print(json.dumps(done[-1]), flush=True)


if __name__ == "__main__":
    main()
