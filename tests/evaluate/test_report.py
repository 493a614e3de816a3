from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertie.data.examples import from_lists
from bertie.evaluate import pictures
from bertie.evaluate.baselines import _sample, baselines
from bertie.evaluate.headline import HEADLINES
from bertie.evaluate.metrics import measure
from bertie.evaluate.report import verdict, write_report
from bertie.scores import Decision
from tests.conftest import make_rows

EVIL = "<img src=x onerror=alert(1)>"
LABELS = ("plain", "with $money$", EVIL)


def facts(**wanted: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    truth = np.eye(3, dtype=np.int64)[random.integers(3, size=60)]
    scores = random.dirichlet([1, 1, 1], size=60)
    usual = {
        "title": EVIL,
        "through": "the bundle",
        "on": "test",
        "labels": LABELS,
        "metrics": measure(truth, scores, Decision(LABELS)),
        "reliability": [{"confidence": 0.5, "right": 0.4, "rows": 60}],
        "baselines": [],
        "training": {},
        "curve": [{"pass": 1, "macro_f1": 0.3, "log_loss": 1.0}],
        "metric": "macro_f1",
        "table": [("files", EVIL)],
        "problems": [EVIL],
        "next": [EVIL],
    }
    return usual | wanted


def page(tmp_path: Path, **wanted: Any) -> str:
    write_report(tmp_path / "report.html", facts(**wanted))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert not re.search(r"<script|<link|<img|<iframe|@import", text)
    assert not re.search(r"(src|href)=[\"']?https?:", text)
    assert "default-src 'none'" in text


def test_names_that_look_like_markup_stay_text(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert EVIL not in text
    assert "&lt;img src=x" in text
    assert "with $money$" in text


def test_the_pictures_are_shapes_and_text_without_images() -> None:
    metrics = facts()["metrics"]
    drawn = [
        pictures.confusion(metrics["confusion"], LABELS),
        pictures.bars(metrics["per_label"]),
        pictures.reliability(facts()["reliability"]),
        pictures.curve(facts()["curve"], "macro_f1"),
    ]
    for svg in drawn:
        names = {element.tag.split("}")[1] for element in ET.fromstring(svg).iter()}  # noqa: S314 - our own output
        assert "path" in names
        assert "text" in names
        assert "image" not in names, "the page's security policy would hide it"


def test_a_matrix_of_many_labels_shows_the_most_confused() -> None:
    labels = [f"label-{number}" for number in range(pictures.MOST_LABELS + 5)]
    table = np.eye(len(labels), dtype=int) * 9
    table[3, 44] = 5
    svg = pictures.confusion(table.tolist(), labels)
    assert "label-3<" in svg
    assert "label-44<" in svg
    assert sum(f"{label}<" in svg for label in labels) == pictures.MOST_LABELS


def test_multi_label_tasks_have_a_report_without_a_matrix(tmp_path: Path) -> None:
    metrics = facts()["metrics"]
    del metrics["confusion"]
    assert "What is taken for what" not in page(tmp_path, metrics=metrics)
    assert "What is taken for what" in page(tmp_path)


def as_interval(values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), values, strict=True))


@pytest.mark.parametrize(
    ("model", "simple", "said"),
    [
        ((0.9, 0.85, 0.95), (0.7, 0.6, 0.8), "Clearly better than tf-idf: +20.0 points"),
        ((0.8, 0.7, 0.9), (0.75, 0.6, 0.8), "intervals overlap"),
        ((0.6, 0.5, 0.7), (0.75, 0.6, 0.8), "Not better than tf-idf (-15.0 points"),
    ],
)
def test_the_verdict_is_honest(model: tuple[float, ...], simple: tuple[float, ...], said: str) -> None:
    given = {
        "metrics": {"macro_f1": as_interval(model)},
        "baselines": [
            {"name": "majority", "macro_f1": as_interval((0.99, 0.9, 1.0))},
            {"name": "tf-idf", "macro_f1": as_interval(simple)},
        ],
    }
    assert said in verdict(given)


def test_the_simple_methods_learn_and_say_how_long_it_took() -> None:
    texts, labels = zip(*make_rows(120), strict=True)
    train, test = (from_lists(texts[part], labels[part]) for part in (slice(0, 80), slice(80, 120)))
    found = {one["name"]: one for one in baselines(train, test, ("delivery", "praise"))}
    assert found["majority"]["accuracy"]["value"] == 0.5
    for name in ("bag of words", "tf-idf"):
        assert found[name]["accuracy"]["value"] > 0.9
        assert found[name]["fit_seconds"] > 0


def test_the_simple_methods_know_pairs_and_several_labels() -> None:
    rows = make_rows(60)
    several = from_lists([(text, "x") for text, _ in rows], [[label, "all"] for _, label in rows])
    found = list(baselines(several, several, several.label_names()))
    assert found[-1]["accuracy"]["value"] > 0.9


def test_of_a_very_large_set_the_simple_methods_see_a_sample_with_every_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, labels = zip(*make_rows(400), strict=True)
    train = from_lists([*texts, "the only one"], [*labels, "rare"])
    names = train.label_names()
    whole = list(baselines(train, train, names))
    assert {(one["fit_rows"], one["train_rows"]) for one in whole} == {(401, 401)}
    monkeypatch.setattr("bertie.evaluate.baselines.MOST_CHARACTERS", sum(map(len, texts)) // 4)
    monkeypatch.setattr("bertie.evaluate.baselines.MOST_COEFFICIENTS", 90)
    found = list(baselines(train, train, names))
    assert {one["train_rows"] for one in found} == {401}
    assert all(80 < one["fit_rows"] < 120 for one in found)
    assert found[1]["accuracy"]["value"] > 0.9
    assert list(_sample(train, names)) == list(_sample(train, names))
    assert 400 in _sample(train, names)


def test_a_report_says_of_how_many_rows_the_sample_is(tmp_path: Path) -> None:
    one = {"name": "tf-idf", "fit_seconds": 1.0, **{name: as_interval((0.5, 0.4, 0.6)) for name in HEADLINES}}
    said = "fitted on 10 of the 20 training rows"
    assert said in page(tmp_path, baselines=[one | {"fit_rows": 10, "train_rows": 20}])
    assert "training rows, drawn" not in page(tmp_path, baselines=[one | {"fit_rows": 20, "train_rows": 20}])
