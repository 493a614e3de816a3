"""What dropping layers costs, and what a teacher gives back: students of three and four layers, beside their teacher.

    python -m benchmarks.distill --data PATH/cola_public_1.1.zip --work FOLDER --seeds 3

The teacher is what `bertie train` makes of the default base, all-MiniLM-L6-v2 with its six layers; its answers come
from its bundle. A student starts from the base or from the teacher's checkpoint with layers left out, and learns from
labels alone or from the teacher too. Sets: CoLA, measured on its two development files, and the sample messages, on
their test file. Teachers and students choose their checkpoint on the same validation rows. The record is written after
each trial, and what it holds is not done again; runs of teachers stay in the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import alone, describe
from benchmarks.train import COLUMNS, DEVS, SETTINGS
from bertie.config import DataSettings, DistillSettings, TrainSettings
from bertie.data.examples import Examples, read
from bertie.evaluate.headline import headline
from bertie.pipeline.run_folder import Run
from bertie.samples import path
from bertie.scores import chosen, probabilities
from bertie.talk import Talk

RESULT = Path(__file__).parent / "results" / "distill.json"
DEFAULTS = DistillSettings()


@dataclass(frozen=True)
class Trial:
    """One student. Without `share` it learns from labels alone; `calibrated` divides the teacher's logits first."""

    layers: int
    start: str = "base"
    which: str = "spread"
    share: float | None = None
    temperature: float = 2.0
    passes: int = 0
    trimmed: bool = False
    calibrated: bool = True


SAME = {"start": "teacher", "share": DEFAULTS.soft_share, "temperature": DEFAULTS.temperature}
TRIALS = [
    Trial(3),
    Trial(3, start="teacher"),
    Trial(3, **SAME),
    Trial(4, start="teacher"),
    Trial(4, **SAME),
]
CHOICES = [
    Trial(3, **SAME | {"temperature": 1.0}),
    Trial(3, **SAME | {"calibrated": False}),
    Trial(3, **SAME | {"calibrated": False, "share": 1.0}),
    Trial(3, **SAME | {"calibrated": False, "which": "first"}),
]
"""What the defaults were chosen among, on the first seed alone."""


def teacher(name: str, work: Path, seed: int) -> Path:
    """Return the run of a teacher, trained now if it is not there."""
    run = work / f"teacher-{name}-{seed}"
    if not (run / "report.html").is_file():
        if name == "CoLA":
            raw = work / "cola_public" / "raw"
            data = [raw / "in_domain_train.tsv", "--test", raw / DEVS["in domain"], "--valid-share", "0.05", *COLUMNS]
        else:
            data = [path("train"), "--valid", path("valid"), "--test", path("test")]
        words = ["train", *data, "--out", run, "--overwrite", "--seed", seed, "--quiet", "--json"]
        subprocess.run([sys.executable, "-m", "bertie", *map(str, words)], stdout=subprocess.DEVNULL, check=True)
    return run


def measured(name: str, work: Path) -> dict[str, Examples]:
    """Return the rows that students and teachers are measured on, by the name of their file."""
    if name == "CoLA":
        return {dev: read(work / "cola_public" / "raw" / file, SETTINGS) for dev, file in DEVS.items()}
    return {"test": read(path("test"), DataSettings())}


def of_teacher(run: Path, files: dict[str, Examples]) -> dict[str, Any]:
    """Return what a teacher gets."""
    from bertie.pipeline.lesson import size
    from bertie.runtime.classifier import load

    classifier = load(run)
    picked = {dev: chosen(classifier.predict_proba(part.texts), classifier.decision) for dev, part in files.items()}
    scores = {dev: headline(part.targets(classifier.labels), picked[dev], single=True) for dev, part in files.items()}
    return scores | size(run / "checkpoint")


def of_student(trial: Trial, run: Path, files: dict[str, Examples], seed: int, place: Path) -> dict[str, Any]:
    """Train a student in `place` and return what it gets, and how often it answers as its teacher does."""
    import torch

    from bertie.pipeline.lesson import layers_in, size
    from bertie.runtime.classifier import load
    from bertie.train import checkpoint
    from bertie.train.base_models import resolve
    from bertie.train.forward import Padded, logits_of
    from bertie.train.job import Job
    from bertie.train.layers import chosen_layers
    from bertie.train.limits import text_encoder, text_limits
    from bertie.train.shrink import shrink
    from bertie.train.soft import Soft
    from bertie.train.train import train

    classifier = load(run)
    rows, valid = Run.open(run).split("train"), Run.open(run).split("valid")
    settings = TrainSettings(max_passes=trial.passes, checkpoint_minutes=0)
    base = resolve("minilm" if trial.start == "base" else str(run / "checkpoint"))
    layers = chosen_layers(trial.layers, layers_in(base.config), "first" if trial.which == "first" else "spread")
    student, _ = shrink(
        base,
        classifier.labels,
        "single-label",
        layers,
        place / "student",
        seed=seed,
        texts=[*rows.texts, *valid.texts] if trial.trimmed else None,
        frequent=DEFAULTS.frequent_pieces,
    )
    encoder = text_encoder(student, text_limits(student, settings))
    soft = None
    if trial.share is not None:
        own = classifier.decision.temperature if trial.calibrated else 1.0
        soft = Soft(classifier.logits(rows.texts) / np.float32(own), len(rows), trial.temperature, trial.share)
    (place / "run").mkdir(exist_ok=True)
    job = Job(place / "run", student, encoder, rows, valid, classifier.labels, settings, seed, soft=soft)
    fitted = train(job, Talk(quiet=True))
    forward = Padded(checkpoint.load(fitted.checkpoint), torch.device("cpu"), encoder.pad_id)
    answer: dict[str, Any] = {"passes": fitted.passes, "seconds": fitted.seconds, **size(fitted.checkpoint)}
    for dev, part in files.items():
        picked = chosen(probabilities(logits_of(forward, encoder.encode(part.texts), 8192), job.decision), job.decision)
        theirs = chosen(classifier.predict_proba(part.texts), classifier.decision)
        answer[dev] = headline(part.targets(job.labels), picked, single=True)
        answer[dev]["agreement"] = float(np.mean((picked == theirs).all(axis=1)))
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs of teachers and students")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=["CoLA", "samples"])
    parser.add_argument("--choices", action="store_true", help="also what the defaults were chosen among, on seed 0")
    parser.add_argument("--lock", type=Path, help="hold this file's lock during each trial")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.data) as files:
        files.extractall(arguments.work)
    done: list[dict[str, Any]] = json.loads(RESULT.read_text())["trials"] if RESULT.is_file() else []
    known = {json.dumps([one["set"], one["seed"], one["trial"]], sort_keys=True) for one in done}
    for seed in range(arguments.seeds):
        for name in arguments.sets:
            parts = measured(name, arguments.work)
            trials = [None, *TRIALS[:3], *(CHOICES if arguments.choices and seed == 0 else []), *TRIALS[3:]]
            for trial in trials:
                facts = {"set": name, "seed": seed, "trial": None if trial is None else dataclasses.asdict(trial)}
                if json.dumps([*facts.values()], sort_keys=True) in known:
                    continue
                with alone(arguments.lock):
                    run = teacher(name, arguments.work, seed)
                    place = arguments.work / f"student-{name}-{seed}"
                    answer = of_teacher(run, parts) if trial is None else of_student(trial, run, parts, seed, place)
                done.append(facts | answer)
                RESULT.write_text(json.dumps({"machine": describe(), "trials": done}, indent=1) + "\n")
                print(json.dumps(done[-1]), flush=True)


if __name__ == "__main__":
    main()
