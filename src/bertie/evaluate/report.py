"""`report.html`: one file that a person opens, with everything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.evaluate import pictures
from bertie.evaluate.page import write_page

HEADLINES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "mcc": "MCC"}


def write_report(path: Path, facts: dict[str, Any]) -> None:
    """Write the report.

    `facts` holds `title`, `through` (what was measured), `on` (which texts), `labels`, `metrics` as `measure` returns
    them, `table` of names and values; and, empty where unknown, `baselines`, `reliability`, `training`, `curve` with
    its `metric`, `problems`, `next`.
    """
    metrics = facts["metrics"]
    drawn = {
        "bars": pictures.bars(metrics["per_label"]),
        "confusion": pictures.confusion(metrics["confusion"], facts["labels"]) if "confusion" in metrics else "",
        "reliability": pictures.reliability(facts["reliability"]) if facts["reliability"] else "",
        "curve": pictures.curve(facts["curve"], facts["metric"]) if facts["curve"] else "",
    }
    values = {"facts": facts, "metrics": metrics, "drawn": drawn, "headlines": HEADLINES, "verdict": verdict(facts)}
    write_page(path, "report.html", values)


def verdict(facts: dict[str, Any]) -> str:
    """Return one sentence that says whether the model is worth its cost beside the best simple method."""
    simple = [baseline for baseline in facts["baselines"] if baseline["name"] != "majority"]
    if not simple:
        return ""
    best = max(simple, key=lambda baseline: float(baseline["macro_f1"]["value"]))
    model, other = facts["metrics"]["macro_f1"], best["macro_f1"]
    points = 100 * (model["value"] - other["value"])
    if model["low"] > other["high"]:
        return (
            f"Clearly better than {best['name']}: {points:+.1f} points of macro-F1, and the intervals do not overlap."
        )
    if points > 0:
        return (
            f"Better than {best['name']} by {points:.1f} points of macro-F1, but the intervals overlap: "
            "more test rows would tell whether the difference is real."
        )
    return (
        f"Not better than {best['name']} ({points:+.1f} points of macro-F1). "
        "More training rows, or cleaner labels, would help more than a larger model."
    )
