"""Which training settings are good first choices: one changed at a time, then the best of them over several seeds.

    python -m benchmarks.defaults --data PATH/cola_public_1.1.zip --seeds 3 [--finals]

The sets: CoLA as published; the sample messages; and a many-class set made from these, in which each label is cut into
four by k-means over tf-idf, so that 32 classes have some twenty messages each. Every trial chooses its checkpoint on
validation rows and is measured on rows that it has not seen (CoLA: both development files; samples: the test file).
The record in `benchmarks/results/defaults.json` is written after each trial, and what it holds is not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.machine import alone, describe
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

COMMON: list[dict[str, Any]] = [
    {},
    {"learning_rate": 2e-4},
    {"learning_rate": 5e-5},
    {"dropout": 0.0},
    {"warmup_share": 0.0},
    {"schedule": "cosine"},
    {"schedule": "constant"},
    {"weight_decay": 0.1},
]
SMALL: list[dict[str, Any]] = [{"batch_size": 32, "max_passes": 12} | wanted for wanted in COMMON]

TRIALS: dict[str, list[dict[str, Any]]] = {
    "CoLA": [
        *({"batch_size": 64, "max_passes": 3} | wanted for wanted in COMMON),
        {"batch_size": 64, "max_passes": 5},
        {"batch_size": 64, "max_passes": 8},
        {"batch_size": 32, "max_passes": 3},
    ],
    "samples": [*SMALL, {"batch_size": 16, "max_passes": 12}, {"batch_size": 32, "max_passes": 20}],
    "many-class": [*SMALL, {"batch_size": 16, "max_passes": 12}, {"batch_size": 32, "max_passes": 20}],
}

BETTER: list[dict[str, Any]] = [
    {"batch_size": 16, "max_passes": 12},
    {"batch_size": 32, "max_passes": 12, "learning_rate": 2e-4},
    {"batch_size": 16, "max_passes": 12, "learning_rate": 2e-4},
    {"batch_size": 16, "max_passes": 12, "schedule": "constant"},
]

FINALS: dict[str, list[dict[str, Any]]] = {
    "samples": [SMALL[0], *BETTER],
    "many-class": [SMALL[0], *BETTER],
    "CoLA": [
        {"batch_size": 64, "max_passes": 3},
        {"batch_size": 64, "max_passes": 5},
        {"batch_size": 64, "max_passes": 5, "schedule": "constant"},
    ],
}
"""What one seed showed to be better than what it began with, and combinations: several seeds decide."""

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=list(TRIALS))
    parser.add_argument("--finals", action="store_true", help="those settings alone that several seeds decide between")
    parser.add_argument("--lock", type=Path, help="hold this file's lock during each trial")
    arguments = parser.parse_args()
    done: list[dict[str, Any]] = json.loads(RESULT.read_text())["trials"] if RESULT.is_file() else []
    known = {json.dumps([one["set"], one["settings"], one["seed"]], sort_keys=True) for one in done}
    for seed in range(arguments.seeds):
        for name in arguments.sets:
            parts = cola(arguments.data, seed) if name == "CoLA" else samples() if name == "samples" else many_class()
            for wanted in (*(TRIALS[name] if seed == 0 and not arguments.finals else ()), *FINALS[name]):
                facts = {"set": name, "settings": wanted, "seed": seed}
                if json.dumps(list(facts.values()), sort_keys=True) in known:
                    continue
                with alone(arguments.lock):
                    done.append(facts | trial(parts, wanted, seed))
                known.add(json.dumps(list(facts.values()), sort_keys=True))
                RESULT.write_text(json.dumps({"machine": describe(), "trials": done}, indent=1) + "\n")
                print(json.dumps(done[-1]), flush=True)


if __name__ == "__main__":
    main()
