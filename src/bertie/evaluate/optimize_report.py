"""The page that `bertie optimize` leaves: what was tried, how fast and how accurate each is, and what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertie.evaluate.page import write_page
from bertie.evaluate.tradeoff import tradeoff

METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC"}


class Goal(NamedTuple):
    """What an optimization is after: its name, the figure it looks at, and how that is told."""

    name: str
    key: str
    unit: str
    more: bool = False


GOALS = {
    "latency": Goal("lowest latency", "p50_ms", "ms for one text"),
    "throughput": Goal("highest throughput", "texts_per_s", "texts a second", more=True),
    "size": Goal("smallest size", "mb", "MB on disk"),
}
NONE = "–"

Cell = tuple[str, str]
"""What stands in a cell, and what follows in grey."""


def write_optimize_report(path: Path, facts: dict[str, Any]) -> None:
    """Write the page. Raises OutputError, DependencyMissing.

    `facts` holds `title`; `goal`, a key of GOALS; `chosen`, a candidate's name or None; `metric`, a key of METRICS;
    `budget` with `max_drop` and `min_agreement`; `reference` with at least `name` and `metric`; `texts`, how many there
    were; `machine` as `bertie.bench.machine.describe` returns it; and `candidates`. Each of these has `name`,
    `accepted` and `why`, and as far as they are known, None or absent otherwise: `skipped`, `metric` with `value`,
    `low` and `high`, `agreement`, `flips`, `max_shift`, `ece`, and what `Speed.as_dict` returns, `cost_per_million`.
    """
    candidates = _ordered(facts)
    tried = [one for one in candidates if not one.get("skipped")]
    floor = facts["reference"]["metric"]["value"] - facts["budget"]["max_drop"]
    drawn = tradeoff(tried, goal=facts["goal"], chosen=facts["chosen"], floor=floor, metric=METRICS[facts["metric"]])
    values = {
        "facts": facts,
        "choice": choice(facts),
        "contract": _contract(facts, floor),
        "drawn": drawn,
        "verdicts": [
            {"name": one["name"], "kind": _kind(one, facts["chosen"]), "why": one.get("why", "")} for one in candidates
        ],
        "quality": _table(tried, facts["chosen"], _quality(METRICS[facts["metric"]])),
        "speed": _table(tried, facts["chosen"], _speed(tried)),
        "machine": [(name.replace("_", " "), _said(value)) for name, value in facts["machine"].items()],
    }
    write_page(path, "optimize.html", values)


def choice(facts: dict[str, Any]) -> str:
    """Return in two sentences what was chosen and why, and what it gains and costs beside the reference."""
    tried = {one["name"]: _completed(one) for one in facts["candidates"] if not one.get("skipped")}
    if facts["chosen"] is None:
        return f"None of the {len(tried)} candidates holds the contract, so none was chosen."
    one, reference, goal = tried[facts["chosen"]], facts["reference"], GOALS[facts["goal"]]
    accepted = sum(bool(other["accepted"]) for other in tried.values())
    why = f"of {accepted} accepted candidates it has the {goal.name}" if accepted > 1 else "it alone holds the contract"
    name, speed, value = METRICS[facts["metric"]], _number(one.get(goal.key)), f"{one['metric']['value']:.3f}"
    if one["name"] == reference["name"]:
        return f"{one['name']} was chosen: {why}. {speed} {goal.unit}, {name} {value}."
    before = tried.get(reference["name"], _completed(reference)).get(goal.key)
    speed += f" {goal.unit}" + (f" instead of {reference['name']}'s {_number(before)}" if before else "")
    quality = f"{name} {value} instead of {reference['metric']['value']:.3f}"
    flips = f", {one['flips']:,} of {facts['texts']:,} texts labelled otherwise" if one.get("flips") is not None else ""
    return f"{one['name']} was chosen: {why}. {speed}; {quality}{flips}."


def _ordered(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the candidates: the chosen one, the accepted ones, the rejected, the skipped; the fastest first."""
    goal = GOALS[facts["goal"]]

    def place(one: dict[str, Any]) -> tuple[bool, bool, bool, float]:
        known = one.get(goal.key)
        speed = float("inf") if known is None else -known if goal.more else known
        return one["name"] != facts["chosen"], bool(one.get("skipped")), not one["accepted"], speed

    return sorted(map(_completed, facts["candidates"]), key=place)


def _completed(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"mb": one["bytes"] / 1e6 if one.get("bytes") else None}


def _kind(one: dict[str, Any], chosen: str | None) -> str:
    if one.get("skipped"):
        return "skipped"
    return "chosen" if one["name"] == chosen else "accepted" if one["accepted"] else "rejected"


def _contract(facts: dict[str, Any], floor: float) -> str:
    budget, reference = facts["budget"], facts["reference"]
    return (
        f"Contract: on {facts['texts']:,} held-out texts a {METRICS[facts['metric']]} of at least {floor:.4f}, "
        f"{budget['max_drop']:g} below {reference['name']}, and the same label for at least "
        f"{100 * budget['min_agreement']:g} % of them."
    )


Column = tuple[str, Callable[[dict[str, Any]], Cell]]


def _quality(metric: str) -> list[Column]:
    def interval(one: dict[str, Any]) -> Cell:
        found = one.get("metric")
        return (f"{found['value']:.3f}", f"{found['low']:.3f}–{found['high']:.3f}") if found else (NONE, "")

    return [
        (metric, interval),
        ("same label", _as("agreement", lambda share: f"{100 * share:.2f} %")),
        ("other label", _as("flips", "{:,}".format)),
        ("greatest shift", _as("max_shift", lambda shift: "<0.001" if shift < 5e-4 else f"{shift:.3f}")),
        ("calibration error", _as("ece", "{:.3f}".format)),
    ]


def _speed(tried: Sequence[dict[str, Any]]) -> list[Column]:
    measured: dict[str, dict[str, float]] = next((one["by_length"] for one in tried if one.get("by_length")), {})
    columns: list[Column] = [("all texts", _latency())]
    for name, group in measured.items():
        columns.append((f"{name} ({group['tokens']:.0f} tokens)", _latency(name)))
    columns += [
        ("texts/s", _as("texts_per_s", _number)),
        ("cold start, s", _as("cold_start_ms", lambda value: f"{value / 1e3:.2f}")),
        ("on disk, MB", _as("mb", "{:,.1f}".format)),
        ("peak memory, MB", _as("peak_mb", "{:,.0f}".format)),
    ]
    if any(one.get("cost_per_million") is not None for one in tried):
        columns.append(("$ a million texts", _as("cost_per_million", _number)))
    return columns


def _latency(length: str = "") -> Callable[[dict[str, Any]], Cell]:
    def cell(one: dict[str, Any]) -> Cell:
        found = (one.get("by_length") or {}).get(length, {}) if length else one
        return (_number(found["p50_ms"]), f"/ {_number(found['p99_ms'])}") if found.get("p50_ms") else (NONE, "")

    return cell


def _as(key: str, form: Callable[[Any], str]) -> Callable[[dict[str, Any]], Cell]:
    return lambda one: (NONE if one.get(key) is None else form(one[key]), "")


def _table(tried: Sequence[dict[str, Any]], chosen: str | None, columns: Sequence[Column]) -> dict[str, Any]:
    """Return what the template needs to write a table: a row for each candidate."""
    rows = [
        {"chosen": one["name"] == chosen, "cells": [(one["name"], ""), *(cell(one) for _, cell in columns)]}
        for one in tried
    ]
    return {"head": ["candidate", *(title for title, _ in columns)], "rows": rows}


def _number(value: float | None) -> str:
    """Return a number with three digits that count, or all before the point."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return NONE if value is None else str(value)
