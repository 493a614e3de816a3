"""What the report of a run says beside its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.pipeline.lesson import teacher_rows


def report_of(
    run: Path, facts: dict[str, Any], training: dict[str, Any], results: dict[str, Any], parity: dict[str, Any]
) -> dict[str, Any]:
    """Return the facts of `write_report` for a run: its `data.json`, its `training.json`, and what was measured."""
    rows = facts["rows"]
    table = [
        ("rows", f"{rows['train']} training, {rows['valid']} validation, {rows['test']} test"),
        ("base", f"{facts['base']['source']} (weights sha256 {facts['base']['weights_sha256'][:12]}…)"),
        ("window", f"{facts['limits']['max_tokens']} tokens, longer texts: {facts['limits']['long']}"),
        ("parity", f"exported against trained: off by at most {parity['max_difference']:.1g}, {parity['flips']} flips"),
    ]
    if training:
        table += [
            ("training", f"{training['passes']} passes, {training['seconds']:.0f} s, {training['precision']}"),
            ("texts cut", str(training["truncated"])),
        ]
    if "teacher" in results["metrics"]:
        table += teacher_rows(results["metrics"])
    return {
        "title": f"Report of {run.resolve().name}",
        "through": "the exported bundle",
        "on": facts["measured_on"],
        "labels": facts["labels"],
        "metrics": results["metrics"],
        "reliability": results["reliability"],
        "baselines": results["metrics"]["baselines"],
        "training": training,
        "curve": training.get("curve"),
        "metric": training.get("metric"),
        "table": table,
        "problems": facts["problems"],
        "next": [f"bertie predict {run} 'your text'", f"bertie serve {run}"],
    }
