from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import bertie
from bertie.data.examples import Examples
from bertie.errors import DependencyMissing
from bertie.export.export import Plan
from bertie.export.targets.convert import convert
from bertie.export.targets.target import Trained
from bertie.export.targets.targets import TARGETS
from bertie.train.checkpoint import load as load_checkpoint
from tests.export.test_export import PLAN, valid

TEXTS = ["a text", "another, longer text"]
"""Those of the README's example."""

NEEDLESS = {
    "onnx": ["bertie", "torch", "transformers", "onnx"],
    "openvino": ["bertie", "torch", "transformers", "onnx", "onnxruntime"],
    "safetensors": ["bertie", "onnx", "onnxruntime"],
    "torchscript": ["bertie", "transformers", "onnx", "onnxruntime"],
}
"""What an export must not need to be loaded."""


def run_example(out: Path, without: list[str]) -> list[dict[str, float]]:
    """Run the README's example in a process in which some packages cannot be imported; return what it prints."""
    example = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    program = f"import sys\nsys.modules.update(dict.fromkeys({without!r}))\n" + example[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores: list[dict[str, float]] = json.loads(done.stdout)
    return scores


@pytest.mark.parametrize("name", TARGETS)
def test_the_example_in_the_readme_answers_as_bertie_does(tiny_run: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    parity = convert(tiny_run / "checkpoint", TARGETS[name], out, PLAN, valid(tiny_run))
    assert parity.texts == len(valid(tiny_run))
    assert parity.max_difference < 1e-5
    classifier = bertie.load(tiny_run)
    scores = run_example(out, NEEDLESS[name])
    found = np.array([[row[label] for label in classifier.labels] for row in scores])
    assert np.allclose(found, classifier.predict_proba(TEXTS), atol=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_example_would_show_a_missing_package(tiny_run: Path, tmp_path: Path) -> None:
    """The negative control: what is withheld cannot be imported."""
    convert(tiny_run / "checkpoint", TARGETS["onnx"], tmp_path / "out", PLAN, valid(tiny_run))
    with pytest.raises(AssertionError, match="onnxruntime"):
        run_example(tmp_path / "out", ["onnxruntime"])


@pytest.mark.parametrize("name", TARGETS)
def test_an_export_takes_any_rows_and_tokens(tiny_run: Path, tmp_path: Path, name: str) -> None:
    trained = Trained(load_checkpoint(tiny_run / "checkpoint"), tiny_run / "checkpoint")
    TARGETS[name].write(trained, tmp_path)
    run = TARGETS[name].load(trained, tmp_path)
    for rows, tokens in ((1, 1), (1, 64), (5, 3), (33, 17)):
        inputs = random_inputs(rows, tokens)
        with torch.inference_mode():
            expected = trained.model({key: torch.from_numpy(array) for key, array in inputs.items()}).numpy()
            assert np.allclose(run(inputs), expected, atol=1e-5)


def random_inputs(rows: int, tokens: int) -> dict[str, NDArray[np.int64]]:
    ids = np.random.default_rng(rows).integers(5, 60, size=(rows, tokens))
    mask = np.ones_like(ids)
    mask[0, tokens // 2 + 1 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.mark.parametrize("kind", ["distilbert", "modernbert"])
@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_other_architectures_are_exported_too(kind: str, name: str, tmp_path: Path) -> None:
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        ModernBertConfig,
        ModernBertForSequenceClassification,
    )

    from bertie.train.model import SequenceClassifier

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "distilbert":
            small = DistilBertConfig(vocab_size=99, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
            model = SequenceClassifier(DistilBertForSequenceClassification(small)).eval()
        else:
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
            special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
            modern = ModernBertConfig(vocab_size=99, local_attention=8, **sizes, **special)
            model = SequenceClassifier(ModernBertForSequenceClassification(modern)).eval()
    trained = Trained(model, tmp_path)
    TARGETS[name].write(trained, tmp_path)
    run = TARGETS[name].load(trained, tmp_path)
    for rows, tokens in ((1, 5), (4, 40)):
        inputs = random_inputs(rows, tokens)
        with torch.inference_mode():
            expected = model({key: torch.from_numpy(array) for key, array in inputs.items()}).numpy()
            assert np.allclose(run(inputs), expected, atol=1e-5)


def test_transformers_sees_the_label_names(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(tiny_run / "checkpoint", TARGETS["safetensors"], out, PLAN, valid(tiny_run))
    assert json.loads((out / "config.json").read_text())["id2label"] == {"0": "delivery", "1": "praise"}


def test_the_onnx_graph_is_one_file(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(tiny_run / "checkpoint", TARGETS["onnx"], out, PLAN, valid(tiny_run))
    assert {file.name for file in out.iterdir()} == {"model.onnx", "tokenizer.json", "about.json", "README.md"}


def test_about_says_how_logits_are_read(tiny_run: Path, tmp_path: Path) -> None:
    convert(tiny_run / "checkpoint", TARGETS["onnx"], tmp_path / "out", PLAN, valid(tiny_run))
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    manifest = json.loads((tiny_run / "bundle" / "manifest.json").read_text())
    assert about["temperature"] == pytest.approx(manifest["temperature"], rel=1e-3)
    assert about["labels"] == ["delivery", "praise"]
    assert about["max_tokens"] == 64
    assert about["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]


def test_several_labels_pairs_and_windows_are_described_and_run(tiny_run: Path, tmp_path: Path) -> None:
    rows = valid(tiny_run)
    pairs = Examples(rows.name, [(str(text), "so much") for text in rows.texts], rows.labels, rows.lines)
    limits = replace(PLAN.limits, max_tokens=24, long="windows", overlap=4)
    plan: Plan = replace(PLAN, kind="multi-label", pairs=True, limits=limits)
    convert(tiny_run / "checkpoint", TARGETS["onnx"], tmp_path / "out", plan, pairs)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "thresholds" in card
    assert "windows" in card
    scores = run_example(tmp_path / "out", NEEDLESS["onnx"])
    assert len(scores) == 2
    assert all(0 <= value <= 1 for row in scores for value in row.values())


def test_without_openvino_the_error_says_how_to_get_it(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'bertie\[openvino\]'"):
        convert(tiny_run / "checkpoint", TARGETS["openvino"], tmp_path / "out", PLAN, valid(tiny_run))
    assert list(tmp_path.iterdir()) == []
