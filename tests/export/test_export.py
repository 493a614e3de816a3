from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

import bertie
from bertie.config import DataSettings
from bertie.data.examples import Examples, read
from bertie.errors import BundleNotFound, ExportError, ParityError
from bertie.export import export as exporting
from bertie.export import onnx as onnx_module
from bertie.export.export import Plan, export
from bertie.export.onnx import write_onnx
from bertie.export.parity import Parity, compare, require
from bertie.scores import Decision
from bertie.tokens import TextLimits
from bertie.train.checkpoint import load as load_checkpoint
from bertie.train.model import SequenceClassifier

PLAN = Plan(("delivery", "praise"), "single-label", pairs=False, limits=TextLimits(64), pad_id=0, tolerance=1e-3)
TWO = Decision(("a", "b"))


def valid(run: Path) -> Examples:
    return read(run / "splits" / "valid.jsonl", DataSettings())


def test_the_graph_takes_any_rows_and_tokens(tiny_run: Path, tmp_path: Path) -> None:
    model = load_checkpoint(tiny_run / "checkpoint")
    write_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for rows, tokens in ((1, 1), (1, 64), (5, 3), (33, 17)):
        ids = torch.randint(5, 60, (rows, tokens), generator=torch.Generator().manual_seed(rows))
        mask = torch.ones_like(ids)
        mask[0, tokens // 2 + 1 :] = 0
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        with torch.no_grad():
            expected = model(inputs).numpy()
        found = session.run(["logits"], {name: array.numpy() for name, array in inputs.items()})[0]
        assert np.allclose(found, expected, atol=1e-5)


def test_the_bundle_predicts_what_the_checkpoint_does(tiny_run: Path, tmp_path: Path) -> None:
    manifest = export(tiny_run / "checkpoint", tmp_path / "bundle", PLAN, valid(tiny_run), lambda _: {})
    assert manifest.parity["max_difference"] < 1e-5
    assert manifest.parity["flips"] == 0
    assert manifest.parity["texts"] == len(valid(tiny_run))
    bertie.load(tmp_path / "bundle")


def test_a_model_that_predicts_something_else_is_refused(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of parity: a graph with one damaged weight."""

    def damaged(model: SequenceClassifier, path: Path) -> None:
        with torch.no_grad():
            model.classifier.classifier.weight[0].mul_(-3)
            write_onnx(model, path)
            model.classifier.classifier.weight[0].div_(-3)

    monkeypatch.setattr(exporting, "write_onnx", damaged)
    with pytest.raises(ParityError, match="off by"):
        export(tiny_run / "checkpoint", tmp_path / "bundle", PLAN, valid(tiny_run), lambda _: {})
    assert list(tmp_path.iterdir()) == []


class Branching(torch.nn.Module):
    """Computes what depends on the texts in Python, which no exporter can follow."""

    def __init__(self, model: SequenceClassifier) -> None:
        super().__init__()
        self.names, self.classifier = model.inputs, model.classifier

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(**dict(zip(self.names, inputs, strict=True))).logits
        return logits * 2 if int(inputs[0].sum()) % 2 else logits


def test_a_model_that_cannot_be_exported_is_an_error_and_costs_nothing(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    monkeypatch.setattr(onnx_module, "plain", Branching)
    with pytest.raises(ExportError, match="cannot be exported to ONNX") as raised:
        export(tiny_run / "checkpoint", bundle, PLAN, valid(tiny_run), lambda _: {})
    assert raised.value.exit_code == 5
    assert "another --base" in raised.value.hint
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_a_failed_export_leaves_the_old_bundle(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))
    before = (bundle / "manifest.json").read_bytes()

    def fails(_: object) -> dict[str, object]:
        raise ExportError("stop")

    with pytest.raises(ExportError):
        export(tiny_run / "checkpoint", bundle, PLAN, valid(tiny_run), fails)
    assert (bundle / "manifest.json").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_parity_counts_flips_and_the_greatest_difference() -> None:
    trained = np.array([[2.0, 0.0], [0.0, 0.01]])
    exported = np.array([[2.0, 0.0], [0.01, 0.0]])
    parity = compare(trained, exported, TWO)
    assert parity.flips == 1
    assert parity.max_difference == pytest.approx(0.005, abs=1e-4)
    require(parity, 0.01)
    with pytest.raises(ParityError):
        require(parity, 0.001)


def test_parity_that_is_no_number_is_refused() -> None:
    with pytest.raises(ParityError):
        require(Parity(1, float("nan"), 0), 1.0)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="no checkpoint") as caught:
        load_checkpoint(tmp_path / "checkpoint")
    assert "bertie train DATA" in caught.value.hint
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BundleNotFound) as caught:
        load_checkpoint(tmp_path / "checkpoint")
    assert f"--resume {tmp_path}" in caught.value.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_loads_the_checkpoint_with_label_names(tiny_run: Path) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(tiny_run / "checkpoint"))
    ours = bertie.load(tiny_run)
    texts = ["my parcel is late", "i love it"]
    for theirs, text in zip(classify(texts), texts, strict=True):
        prediction = ours.predict([text])[0]
        assert theirs["label"] == prediction.label
        logits = ours.logits([text])[0]
        plain = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert theirs["score"] == pytest.approx(plain.max(), abs=1e-4)


def test_the_checkpoint_cuts_where_training_did(tiny_run: Path) -> None:
    config = json.loads((tiny_run / "checkpoint" / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 64
    tokenizer = Tokenizer.from_file(str(tiny_run / "checkpoint" / "tokenizer.json"))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
