"""Every task goes through the whole slice, from a file to an answer over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

import bertie
from bertie.pipeline.demo import serving
from bertie.scores import probabilities
from tests.conftest import Train, make_rows, write_csv


def answer(run: Path, body: object) -> Any:
    with serving(run) as address:
        response = httpx.post(f"{address}/invocations", json=body, timeout=60)
        response.raise_for_status()
        return response.json()


def accuracy(run: Path) -> float:
    metrics = json.loads((run / "metrics.json").read_text())
    return float(metrics["accuracy"]["value"])


def manifest(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "bundle" / "manifest.json").read_text())
    return values


def test_binary(tiny_run: Path) -> None:
    assert accuracy(tiny_run) > 0.9
    assert answer(tiny_run, "where is my parcel 7")["label"] == "delivery"


def test_multi_class(train_tiny: Train, tmp_path: Path) -> None:
    words = {"delivery": "parcel", "praise": "love", "billing": "invoice"}
    rows = [(text.replace("parcel", words[label]).replace("love", words[label]), label) for text, label in _three(360)]
    run = train_tiny(write_csv(tmp_path / "data.csv", rows), max_passes=16, patience=16)
    assert manifest(run)["labels"] == ["billing", "delivery", "praise"]
    assert accuracy(run) > 0.9
    answers = answer(run, [f"one {word} two" for word in words.values()])
    assert [one["label"] for one in answers] == list(words)


def _three(count: int) -> list[tuple[str, str]]:
    names = ("delivery", "praise", "billing")
    return [(text, names[number % 3]) for number, (text, _) in enumerate(make_rows(count))]


def test_multi_label(train_tiny: Train, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(400):
        labels = [label for label in ("late", "money") if random.random() < 0.5]
        rows.append((f"{' '.join(labels)} the order has come {number}", ";".join(labels)))
    data = write_csv(tmp_path / "data.csv", rows, ("text", "labels"))
    run = train_tiny(data, columns={"label_separator": ";"}, max_passes=15)
    found = manifest(run)
    assert found["task"] == "multi-label"
    assert len(found["thresholds"]) == 2
    assert accuracy(run) > 0.9
    both, none = answer(run, ["late money the order has come 5", "the order has come 9"])
    assert sorted(both["labels"]) == ["late", "money"]
    assert (none["label"], none["labels"]) == (None, [])


def test_pairs(train_tiny: Train, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(600):
        first, second = (("late", "love")[int(random.integers(2))] for _ in range(2))
        rows.append((f"{first} {number % 10}", f"{second}", "same" if first == second else "other"))
    data = write_csv(
        tmp_path / "data.csv",
        [(f"{a} {n}", b, c) for n, (a, b, c) in enumerate(rows)],
        ("premise", "hypothesis", "label"),
    )
    columns = {"text_column": "premise", "pair_column": "hypothesis"}
    run = train_tiny(data, columns=columns, max_passes=20)
    assert manifest(run)["input"]["pairs"] is True
    got = answer(run, [{"text": "late 3", "text_pair": "late"}, {"text": "late 3", "text_pair": "love"}])
    scores = [one["scores"]["same"] for one in got]
    expected = bertie.load(run).predict_proba([("late 3", "late"), ("late 3", "love")])[:, 1]
    assert scores == pytest.approx(expected.tolist(), abs=1e-6)
    with pytest.raises(bertie.BertieError, match="cannot read"):
        bertie.load(run).predict(["late"])


def test_texts_longer_than_the_window(train_tiny: Train, tmp_path: Path) -> None:
    """The word that decides stands where a cut text would have lost it."""
    rows = []
    for number, (text, label) in enumerate(make_rows(300)):
        word = {"delivery": "parcel", "praise": "love"}[label]
        rows.append((f"{number} {'a b c d ' * 10} {word} {text.split()[0]}", label))
    data = write_csv(tmp_path / "data.csv", rows)
    windows = train_tiny(data, max_tokens=24, long="windows", overlap=4)
    cut = train_tiny(data, max_tokens=24)
    facts = [json.loads((run / "metrics.json").read_text()) for run in (windows, cut)]
    assert [metrics["truncated"] for metrics in facts] == [0, facts[1]["n"]]
    assert accuracy(windows) > 0.9 > accuracy(cut)

    classifier = bertie.load(windows)
    text = f"9 {'a b c d ' * 10} love"
    served = answer(windows, text)
    assert served["label"] == "praise"
    assert served["scores"] == pytest.approx(classifier.predict([text])[0].scores, abs=1e-6)
    # And transformers' own model over the same windows says the same.
    from bertie.tokens import TextEncoder
    from bertie.train.checkpoint import load as load_checkpoint
    from bertie.train.forward import Padded, logits_of

    assert classifier.manifest is not None
    limits = classifier.manifest.limits
    tokens = TextEncoder.from_file(windows / "checkpoint" / "tokenizer.json", limits).encode([text])
    assert len(tokens.rows) > 1
    forward = Padded(load_checkpoint(windows / "checkpoint"), torch.device("cpu"), 0)
    logits = logits_of(forward, tokens, 4096)
    assert np.allclose(probabilities(logits, classifier.decision), classifier.predict_proba([text]), atol=1e-5)


def test_a_run_is_complete(tiny_run: Path) -> None:
    names = {entry.name for entry in tiny_run.iterdir()}
    assert {"config.toml", "data.json", "log.jsonl", "checkpoint", "metrics.json", "report.html", "bundle"} <= names
    facts = json.loads((tiny_run / "data.json").read_text())
    assert facts["labels"] == ["delivery", "praise"]
    bundle = {entry.name for entry in (tiny_run / "bundle").iterdir()}
    assert bundle == {"manifest.json", "model.onnx", "model.onnx.data", "tokenizer.json", "probe.json", "README.md"}
    for part in (tiny_run / "bundle").iterdir():
        assert b"parcel 7" not in part.read_bytes(), "a bundle holds no training text"
