"""`bertie train` and `bertie export`: from files to a run with checkpoint, bundle and report.

A run is complete by itself: it holds the rows of its splits, so that export, evaluation and optimization need nothing
else. A bundle holds none of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertie import disk
from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.errors import UsageError, need
from bertie.evaluate.baselines import baselines
from bertie.evaluate.report import write_report
from bertie.pipeline.lesson import BESIDE, Lesson, beside_teacher, forget, lesson_of, student_of
from bertie.pipeline.load_data import Splits, load_splits
from bertie.pipeline.measure import measure_classifier
from bertie.pipeline.run_folder import Request, Run, begin, begun, place_of_checkpoints, refuse_other_folders
from bertie.pipeline.run_report import report_of
from bertie.runtime.classifier import Classifier
from bertie.settings import Settings
from bertie.talk import Talk
from bertie.tokens import TextLimits
from bertie.train.base_models import Base, resolve
from bertie.train.job import Job
from bertie.train.limits import text_encoder, text_limits
from bertie.version import __version__

if TYPE_CHECKING:
    from bertie.train.cluster import Cluster


def train_run(
    request: Request, data: DataSettings, split: SplitSettings, settings: TrainSettings, talk: Talk
) -> dict[str, Any]:
    """Train, export, evaluate and report; return what `--json` prints.

    Nothing is written before the data has been checked and the base found. Raises DataError, UsageError,
    OutputError, TrainingError, ExportError, Interrupted.
    """
    cluster = processes()
    voice = talk if cluster.leads else Talk(quiet=True)
    if cluster.leads:
        refuse_other_folders(request)
    base = resolve(settings.base)
    encoder = text_encoder(base, text_limits(base, settings))
    splits = load_splits(request.data, request.valid, request.test, data, split, voice)
    announce(splits, base, voice)
    job = Job(
        request.out,
        base,
        encoder,
        splits.train,
        splits.valid,
        splits.labels,
        settings,
        split.seed,
        splits.fingerprint,
    )
    begin_and_train(request, splits, job, (data, split, settings), voice, cluster)
    del splits, job  # of a large set they are what takes most memory, and the rest reads what it needs from the run
    return finish(request.out, talk) if cluster.leads else {}


def begin_and_train(
    request: Request,
    splits: Splits,
    job: Job,
    settings: tuple[Settings, ...],
    talk: Talk,
    cluster: Cluster,
    lesson: Lesson | None = None,
) -> None:
    """Make the run's folder, unless this training was begun before, and train until the checkpoint is written."""
    if cluster.leads and not begun(request, job):
        clear = place_of_checkpoints(request, job)
        begin(request, splits, job, settings, lesson)
        clear()
    _train(job, talk, cluster, resume=request.again, kills=request.kills)


def resume_run(folder: Path, talk: Talk, kills: int = 0, changed: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Go on with a training that was interrupted; return what `--json` prints.

    `changed` are settings that are others from now on, of those that do not decide what is learned. A training that
    ended, without its bundle, gets that. Raises UsageError where nothing is left to do or the base is
    another one now, and what `train_run` raises.
    """
    run = Run.open(folder)
    if run.training and (folder / "report.html").is_file():
        raise UsageError(f"{folder} is finished: there is nothing to resume.", hint=f"bertie evaluate {folder} DATA")
    if run.training:
        return finish(folder, talk)
    settings = TrainSettings.load(changed, environment={}, file=folder / "config.toml")
    seed = SplitSettings.load(environment={}, file=folder / "config.toml").seed
    base = student_of(folder, run.facts) or resolve(settings.base)
    if base.weights_sha256 != run.facts["base"]["weights_sha256"]:
        raise UsageError(
            f"the base model {settings.base} is not the one that {folder} began with.",
            expected=f"weights with sha256 {run.facts['base']['weights_sha256']}",
        )
    encoder = text_encoder(base, TextLimits(**run.facts["limits"]))
    train, soft = lesson_of(folder, run.facts, run.split("train"))
    valid, labels = run.split("valid"), tuple(run.facts["labels"])
    job = Job(folder, base, encoder, train, valid, labels, settings, seed, run.facts["fingerprint"], soft)
    cluster = processes()
    _train(job, talk if cluster.leads else Talk(quiet=True), cluster, resume=True, kills=kills)
    del train, valid, job  # as in train_run
    return finish(folder, talk) if cluster.leads else {}


def processes() -> Cluster:
    """Return the processes that train together, this one among them."""
    try:
        from bertie.train.cluster import Cluster  # noqa: PLC0415 - imports PyTorch
    except ImportError as error:
        raise need("train", error) from error
    return Cluster.from_environment(os.environ)


def _train(job: Job, talk: Talk, cluster: Cluster, *, resume: bool, kills: int) -> None:
    """Train, alone or with others, and write the checkpoint."""
    from bertie.train import device  # noqa: PLC0415 - imports PyTorch
    from bertie.train.cluster import join  # noqa: PLC0415
    from bertie.train.train import train  # noqa: PLC0415

    with join(cluster, device.kind()):
        cluster.same(f"bertie {__version__}, torch {device.version()}", "versions")
        cluster.same(job.identity, "data and settings")
        # The process that leads may have to do only what comes after.
        if cluster.agree(resume and cluster.leads and bool(Run.open(job.run).training)):
            talk.say(f"{job.run} is trained already; only what comes after is done again")
            return
        fitted = train(job, talk, cluster, resume=resume, kills=kills)
    if fitted.truncated:
        talk.warn(
            f"{fitted.truncated} texts are longer than {job.encoder.limits.max_tokens} tokens and were cut; "
            "--long windows reads them whole"
        )


def announce(splits: Splits, base: Base, talk: Talk) -> None:
    """Say what is learned from, and with what."""
    rows = f"{len(splits.train)} training, {len(splits.valid)} validation"
    rows += f", {len(splits.test)} test rows" if splits.test is not None else " rows"
    talk.say(f"{rows}; {len(splits.labels)} labels; base {base.source} ({base.weights_sha256[:12]})")
    if splits.test is None:
        talk.warn("without --test the validation rows, which choose the checkpoint, also measure it: a little too well")


def finish(folder: Path, talk: Talk) -> dict[str, Any]:
    """Make bundle, metrics and report from a run's checkpoint; return what `bertie train --json` prints."""
    try:
        from bertie.export.export import Plan, export  # noqa: PLC0415 - imports PyTorch
    except ImportError as error:
        raise need("train", error) from error
    run = Run.open(folder)
    facts, labels = run.facts, tuple(run.facts["labels"])
    settings = TrainSettings.load(environment={}, file=folder / "config.toml")
    measured = run.measured
    results: dict[str, Any] = {}

    def quality(classifier: Classifier) -> dict[str, Any]:
        results["metrics"], results["reliability"] = measure_classifier(classifier, measured)
        if "lesson" in facts:
            results["metrics"] |= beside_teacher(folder, facts, classifier, measured)
        kept = {key: results["metrics"][key] for key in ("n", "accuracy", "macro_f1", "mcc", "log_loss", "ece")}
        return kept | {"on": facts["measured_on"]}

    talk.say("exporting, and comparing the exported model with the trained one")
    plan = Plan(
        labels=labels,
        kind=facts["kind"],
        pairs=facts["pairs"],
        limits=TextLimits(**facts["limits"]),
        pad_id=facts["pad_id"],
        tolerance=settings.tolerance,
        provenance={
            "bertie": __version__,
            "base": facts["base"],
            "rows": facts["rows"],
            "fingerprint": facts["fingerprint"],
            "settings": settings.model_dump() | {"base": facts["base"]["name"]},
            **({"lesson": facts["lesson"]} if "lesson" in facts else {}),
        },
    )
    manifest = export(folder / "checkpoint", folder / "bundle", plan, run.split("valid"), quality)
    talk.say("measuring the simple methods on the same rows")
    simple = list(baselines(run.split("train"), measured, labels))
    results["metrics"]["baselines"] = simple
    disk.write_text(folder / "metrics.json", json.dumps(results["metrics"], indent=2, ensure_ascii=False) + "\n")
    write_report(folder / "report.html", report_of(folder, facts, run.training, results, manifest.parity))
    if run.training:
        forget(folder)
    return {
        "run": str(folder),
        "bundle": str(folder / "bundle"),
        "report": str(folder / "report.html"),
        "metrics": results["metrics"],
        "train_seconds": run.training.get("seconds"),
        "truncated": run.training.get("truncated"),
        **{name: results["metrics"][name] for name in BESIDE if name in results["metrics"]},
    }
