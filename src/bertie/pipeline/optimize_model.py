"""A bundle becomes a faster one: build every candidate, judge it, measure it, keep the best that holds the contract."""

from __future__ import annotations

import errno
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bertie import disk
from bertie.bench.machine import describe
from bertie.bench.measure import measure, scored
from bertie.bench.prices import Machine, chosen, cost_per_million
from bertie.bundle.manifest import FILE, Manifest, Variant
from bertie.bundle.probe import Probe, probe_texts
from bertie.bundle.read import opened, verify
from bertie.bundle.write import complete
from bertie.config import DataSettings, OptimizeSettings
from bertie.data.examples import Examples
from bertie.errors import BertieError, BundleUnusable, OutputError, UsageError, nearest
from bertie.evaluate.optimize_report import write_optimize_report
from bertie.optimize.candidate import Candidate, Source, calibration, program_lengths
from bertie.optimize.candidates import CANDIDATES
from bertie.optimize.contract import METRIC, Budget, judge
from bertie.pipeline.held_out import calibration_texts, held_out
from bertie.pipeline.measure import measure_classifier
from bertie.runtime.classifier import from_folder
from bertie.runtime.engine import lacks
from bertie.scores import Array
from bertie.talk import Talk
from bertie.tokens import TextEncoder

REPORT = "optimize.html"
ELSEWHERE = "choose another place with --out"
FEW = 100
"""Texts below which one that gets another label breaks the usual contract, and hundreds that would are not seen."""
ALONE = 1000
"""Texts that are also scored one at a time, at most."""
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
BEST = {"latency": ("p50_ms", min), "throughput": ("texts_per_s", max), "size": ("bytes", min)}
"""The figure that each goal looks at."""


@dataclass(frozen=True)
class Request:
    """What to optimize, on which texts."""

    model: Path
    out: Path
    settings: OptimizeSettings
    data: Path | None = None
    """Labelled texts that the model has not seen; a run brings its own."""
    data_settings: DataSettings = field(default_factory=DataSettings)
    calibrate: Path | None = None
    """Texts like those to come, to measure ranges of values on; a run brings its own. Labels are not read."""
    overwrite: bool = False


@dataclass
class _Trial:
    """The model that is to become faster, and everything that candidates are compared with."""

    folder: Path
    manifest: Manifest
    portable: Variant
    encoder: TextEncoder
    held_out: Examples
    trained: Array
    source: Source
    request: Request
    work: Path
    price: Machine | None


def optimize_model(request: Request, talk: Talk) -> dict[str, Any]:
    """Write the optimized bundle; return what `bertie optimize --json` prints.

    Raises BundleError, DataError where there is nothing to compare on, OutputError; the model itself stays as it is.
    """
    settings = request.settings
    wanted = _wanted(settings.candidates)
    price = chosen(settings.price_per_hour, settings.machine, Path(settings.prices) if settings.prices else None)
    _refuse_other_folders(request)
    with opened(request.model) as folder, _beside(request.out) as work:
        trial = _trial(folder, request, work, price, talk)
        rows = [_reference(trial, talk)]
        for candidate in talk.track("optimizing", wanted, len(wanted)):
            rows.append(_tried(candidate, trial, rows, talk))
            _make_room(trial, rows)
            talk.say(f"  {rows[-1]['name']}: {rows[-1]['why']}")
        return _finish(trial, rows, talk)


def _refuse_other_folders(request: Request) -> None:
    """Raise OutputError where the result would take the place of the model, or of what is no bundle at all."""
    model, out = request.model.resolve(), request.out.resolve()
    if out in {model, model / "bundle"} or out in model.parents:
        raise OutputError(f"{request.out} holds the model itself, which stays as it is.", hint=ELSEWHERE)
    disk.refuse_others(request.out, FILE, "bundle", replace=request.overwrite)


def _wanted(names: str) -> list[Candidate]:
    if not names:
        return list(CANDIDATES)
    known = {candidate.name: candidate for candidate in CANDIDATES}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"there is no candidate {name!r}.",
                expected=f"some of {', '.join(known)}",
                hint=nearest(name, known),
            )
    return [known[name] for name in wanted]


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Give a folder for the candidates, on the disk that has to hold the result. Raises OutputError if it is full."""
    work = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        yield work
    except OSError as error:
        raise disk.unwritten(out, error) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _trial(folder: Path, request: Request, work: Path, price: Machine | None, talk: Talk) -> _Trial:
    manifest = Manifest.from_file(folder / FILE)
    portable = next((one for one in manifest.variants if _is_trained_model(one)), None)
    if portable is None:
        raise UsageError(
            "this bundle has no portable variant to start from.", hint="bertie optimize the run that it was made from"
        )
    verify(folder, manifest.read_for(portable))
    rows = held_out(request.model, request.data, request.data_settings, manifest)
    encoder = TextEncoder.from_file(folder / manifest.input.tokenizer, manifest.limits, manifest.input.pad_id)
    classifier = from_folder(folder, manifest, portable, threads=request.settings.threads)
    talk.say(f"comparing on {len(rows)} texts that the model has not learned from")
    if len(rows) < FEW:
        talk.warn(f"so few that {100 / len(rows):.2g} % of them are one text: --data FILE brings more")
    texts = calibration_texts(request.model, request.calibrate, request.data_settings, manifest)
    source = Source(
        work / portable.name / portable.file,  # the copy with which all are compared
        calibration(encoder, texts),
        program_lengths(encoder.encode(rows.texts)),
    )
    trained = classifier.predict_proba(rows.texts)
    if not np.isfinite(trained).all():
        raise BundleUnusable(f"{request.model} gives scores that are no numbers: there is nothing to compare with.")
    return _Trial(folder, manifest, portable, encoder, rows, trained, source, request, work, price)


def _is_trained_model(variant: Variant) -> bool:
    """Return whether a variant is the trained model's own export: what was made of it has a probe of its own."""
    return variant.engine == "onnxruntime" and variant.precision == "fp32" and not variant.needs and not variant.probe


def _reference(trial: _Trial, talk: Talk) -> dict[str, Any]:
    folder = _bundle(trial, trial.portable.name)
    # It is what the others are compared with: near ties may fall otherwise one at a time, and are no reason against it.
    return _judged(trial, trial.portable, folder, talk) | {"accepted": True}


def _tried(candidate: Candidate, trial: _Trial, rows: list[dict[str, Any]], talk: Talk) -> dict[str, Any]:
    """Build a candidate, judge and measure it. Whatever goes wrong is the reason why it is not accepted."""
    why = candidate.lacks(trial.source)
    if not why and candidate.rescues:
        why = _not_needed(candidate.rescues, rows, trial.request.settings.goal)
    if why:
        return _row(candidate.name, skipped=True, why=why)
    folder = _bundle(trial, candidate.name)
    try:
        with _hushed():
            variant = candidate.build(trial.source, folder)
        if missing := lacks(variant):
            return _row(candidate.name, skipped=True, why=missing)
        return _judged(trial, variant, folder, talk)
    except Exception as error:
        _raise_unwritable(error, trial)
        said = error.what if isinstance(error, BertieError) else f"{type(error).__name__}: {error}".splitlines()[0]
        return _row(candidate.name, why=f"could not be built or run: {said}")


def _raise_unwritable(error: Exception, trial: _Trial) -> None:
    """Raise what is no fault of a candidate: a disk that is full, which some libraries tell in words of their own."""
    if isinstance(error, OutputError) or (isinstance(error, OSError) and error.errno in UNWRITABLE):
        raise error
    needed = sum((trial.folder / file).stat().st_size for file in trial.portable.files)
    if shutil.disk_usage(trial.work).free < needed:
        full = f"no room is left in {trial.work.parent}, where variants of {needed / 1e6:.0f} MB are tried."
        raise OutputError(full, hint="free some disk space, or choose another place with --out") from error


def _make_room(trial: _Trial, rows: list[dict[str, Any]]) -> None:
    """Remove what will not be chosen any more."""
    kept = {trial.portable.name, _best(rows, trial.request.settings.goal)["name"]}
    for folder in trial.work.iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder)


def _not_needed(rescues: str, rows: list[dict[str, Any]], goal: str) -> str:
    """Return why a slower form of a candidate need not be tried; nothing where that one breaks the contract and leads.

    To find out which parts int8 may have takes minutes, and saves none where the processor has no instructions for it.
    """
    saved = next((row for row in rows if row["name"] == rescues), None)
    if saved is None or saved["accepted"] or saved["skipped"]:
        return f"is for models for which {rescues} breaks the contract"
    figure, better = BEST[goal]
    best = _best(rows, goal)
    if figure in saved and better(saved[figure], best[figure]) == best[figure]:
        return f"{rescues} is no better here than {best['name']}, and this one would be worse"
    return ""


def _best(rows: list[dict[str, Any]], goal: str) -> dict[str, Any]:
    """Return the accepted row with the best figure."""
    figure, better = BEST[goal]
    best: dict[str, Any] = better((row for row in rows if row["accepted"]), key=lambda row: row[figure])
    return best


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what libraries say about their own insides off the terminal, and off the stdout that machines read."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _judged(trial: _Trial, variant: Variant, folder: Path, talk: Talk) -> dict[str, Any]:
    """Complete a candidate's bundle, and return its line of the table."""
    settings, manifest, texts = trial.request.settings, trial.manifest, trial.held_out.texts
    others = [trial.portable] if variant.name != trial.portable.name else []
    draft = {"variants": (variant, *others), "chosen": variant.name}
    complete(folder, _fields(manifest) | draft)
    groups = (texts, probe_texts(pairs=manifest.input.pairs))
    # Programs for single texts, and ranges that are taken from a batch, answer otherwise than for many at once.
    places = np.linspace(0, len(texts) - 1, min(ALONE, len(texts))).astype(int)
    alone = [texts[place] for place in places]
    (scores, probed), singly = scored(folder, groups, alone, variant=variant.name, threads=settings.threads)
    budget = Budget(settings.max_drop, settings.min_agreement)
    targets = trial.held_out.targets(manifest.labels)
    verdict = judge(trial.trained, scores, targets, manifest.decision, budget, (places, singly))
    if others:
        variant = variant.model_copy(update={"probe": f"probe.{variant.name}.json"})
    Probe.record(lambda _: probed, pairs=manifest.input.pairs).write(folder / (variant.probe or manifest.probe))
    complete(folder, _fields(manifest) | draft | {"variants": (variant, *others)})
    speed = measure(folder, texts, variant=variant.name, threads=settings.threads, seconds=settings.seconds).as_dict()
    if trial.price is not None:
        speed["cost_per_million"] = cost_per_million(trial.price.usd_per_hour, speed["texts_per_s"])
    return _row(variant.name, **verdict.as_dict(), **speed, engine=variant.engine, precision=variant.precision)


def _bundle(trial: _Trial, name: str) -> Path:
    """Return a folder with all that a candidate's bundle shares with the model's."""
    folder = trial.work / name
    folder.mkdir()
    for file in trial.manifest.read_for(trial.portable):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trial.folder / file, folder / file)  # no link: onnx refuses files that have several
    return folder


def _row(name: str, **facts: Any) -> dict[str, Any]:
    return {"name": name, "accepted": False, "skipped": False, "why": ""} | facts


def _fields(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(exclude={"format", "files"})


def _finish(trial: _Trial, rows: list[dict[str, Any]], talk: Talk) -> dict[str, Any]:
    """Choose, and write the bundle of the chosen variant with the record of all that was tried."""
    request, goal = trial.request, trial.request.settings.goal
    best = _best(rows, goal)
    facts = {
        "title": f"{request.model.resolve().name}, optimized for {goal}",
        "goal": goal,
        "chosen": best["name"],
        "metric": METRIC,
        "budget": {"max_drop": request.settings.max_drop, "min_agreement": request.settings.min_agreement},
        "reference": rows[0],
        "texts": len(trial.held_out),
        "candidates": rows,
        "machine": describe(),
    }
    with disk.folder(request.out, replace=request.overwrite) as stage:
        _compose(trial, trial.work / best["name"], stage, facts)
    talk.say(f"chosen: {best['name']}, {best['p50_ms']:.3g} ms for one text, {best['texts_per_s']:.0f} texts/s")
    return facts | {"out": str(request.out), "report": str(request.out / REPORT)}


def _compose(trial: _Trial, tried: Path, stage: Path, facts: dict[str, Any]) -> None:
    manifest = Manifest.from_file(tried / FILE)
    variants = [one for one in manifest.variants if one.name == manifest.chosen or trial.request.settings.portable]
    needed = {name for one in variants for name in one.files}
    dropped = {name for one in manifest.variants for name in one.files} - needed
    for name in sorted({*manifest.files} - dropped):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tried / name, stage / name)
    variant = manifest.variant()
    classifier = from_folder(stage, manifest, variant, threads=trial.request.settings.threads)
    quality, _ = measure_classifier(classifier, trial.held_out)
    write_optimize_report(stage / REPORT, facts)
    record = {name: facts[name] for name in ("goal", "budget", "texts", "candidates", "machine")}
    fields = {"variants": variants, "quality": quality | {"on": "held-out"}, "optimization": record}
    complete(stage, _fields(manifest) | fields)
