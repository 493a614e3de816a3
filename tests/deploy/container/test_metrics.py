from __future__ import annotations

import re

import pytest

from bertie.deploy.container.metrics import METRICS, MetricTalk, definitions, metric_line


def read(lines: str) -> dict[str, list[float]]:
    """Do what SageMaker does with a log: search for each expression, and take its first group for the number."""
    found = {one["Name"]: [float(match[1]) for match in re.finditer(one["Regex"], lines)] for one in definitions()}
    return {name: numbers for name, numbers in found.items() if numbers}


def test_what_is_printed_is_what_the_job_searches_for(capsys: pytest.CaptureFixture[str]) -> None:
    talk = MetricTalk(quiet=True)
    talk.measured({"update": 20, "loss": 0.693147, "learning_rate": 1.5e-05, "tokens_per_s": 123456.7})
    talk.measured({"pass": 1, "updates": 20, "accuracy": 0.9, "macro_f1": 0.875, "mcc": -0.25, "log_loss": 1e-7})
    talk.tell("test", {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}, "n": 20, "labels": {"a": {}}, "ece": 0.01})
    talk.tell("train", {"seconds": 12.5})
    said = capsys.readouterr().out
    assert read(f"2026-11-28T07:00:00 {said}") == {
        "train:loss": [0.693147],
        "train:learning_rate": [1.5e-05],
        "train:tokens_per_s": [123457],
        "train:seconds": [12.5],
        "validation:accuracy": [0.9],
        "validation:macro_f1": [0.875],
        "validation:mcc": [-0.25],
        "validation:log_loss": [1e-7],
        "test:accuracy": [0.5],
        "test:ece": [0.01],
    }
    assert len(said.splitlines()) == 4


def test_every_metric_can_be_printed_and_found() -> None:
    for name in METRICS:
        part, _, value = name.partition(":")
        assert read(metric_line(part, {value: 0.5})) == {name: [0.5]}
    assert metric_line("train", {"update": 3}) == ""


def test_the_table_is_within_what_sagemaker_takes() -> None:
    table = definitions()
    assert len(table) <= 40
    assert all(len(one["Name"]) <= 255 and len(one["Regex"]) <= 500 for one in table)
