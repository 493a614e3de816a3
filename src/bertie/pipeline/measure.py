"""A classifier and labelled rows become metrics: the same code for a run, a bundle and an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.config import DataSettings
from bertie.data.check import check
from bertie.data.examples import Examples
from bertie.evaluate.baselines import baselines
from bertie.evaluate.metrics import measure, reliability
from bertie.evaluate.report import write_report
from bertie.pipeline.load_data import read_files, same_kind, same_shape
from bertie.runtime.classifier import Classifier, load
from bertie.scores import chosen
from bertie.talk import Talk

NEED_ROWS = {"bad-row", "empty-text", "empty-label"}
"""What stops a measurement; a label that occurs once does not."""


def measure_classifier(classifier: Classifier, examples: Examples) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Return the metrics, and the bins of the reliability diagram."""
    targets = examples.targets(classifier.labels)
    scores = classifier.predict_proba(examples.texts)
    metrics = measure(targets, scores, classifier.decision)
    metrics["truncated"] = classifier.truncated(examples.texts)
    single = classifier.decision.kind == "single-label"
    return metrics, reliability(targets, scores, chosen(scores, classifier.decision), single=single)


def evaluate_model(
    model: Path, data: Path, settings: DataSettings, talk: Talk, report: Path | None = None
) -> dict[str, Any]:
    """Measure a run, bundle or archive on a labelled file; return what `bertie evaluate --json` prints.

    A run brings its training rows, and so the baselines. Raises DataError, BundleError.
    """
    classifier = load(model)
    files, dropped = read_files([data], settings)
    examples = files[0]
    found = check(files)
    found.problems[:] = [p for p in found.problems if p.severity == "warning" or p.kind in NEED_ROWS]
    found.raise_errors()
    same_shape(examples, pairs=classifier.pairs)
    same_kind(examples, classifier.decision.kind)
    talk.say(f"scoring {len(examples)} texts")
    metrics, bins = measure_classifier(classifier, examples)
    splits = model / "splits" / "train.jsonl"
    if splits.is_file():
        train = read_files([splits], DataSettings(text_column="text", label_column="label"))[0][0]
        train.kind = classifier.decision.kind
        talk.say("measuring the simple methods on the same rows")
        metrics["baselines"] = list(baselines(train, examples, classifier.labels))
    metrics["dropped"] = dropped
    if report is not None:
        write_report(report, _facts(model, data, classifier, metrics, bins))
        metrics["report"] = str(report)
    return metrics


def _facts(
    model: Path, data: Path, classifier: Classifier, metrics: dict[str, Any], bins: list[dict[str, float]]
) -> dict[str, Any]:
    return {
        "title": f"{model.resolve().name} on {data.name}",
        "through": "the bundle",
        "on": "labelled",
        "labels": classifier.labels,
        "metrics": metrics,
        "reliability": bins,
        "baselines": metrics.get("baselines", []),
        "training": {},
        "curve": None,
        "metric": None,
        "table": [("model", str(model)), ("texts", str(data)), ("texts cut", str(metrics["truncated"]))],
        "problems": [],
        "next": [],
    }
