from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from bertie.export.lean import Lean
from bertie.export.onnx import write_onnx
from bertie.train.checkpoint import load as load_checkpoint
from bertie.train.model import SequenceClassifier
from tests.train.test_packed import KNOWN, classifier


def inputs(model: SequenceClassifier, pad: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 200, (4, 19), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row, length in enumerate((19, 7, 1, 12)):
        mask[row, length:] = 0
        ids[row, length:] = pad
    types = torch.zeros_like(ids)
    types[0, 9:] = 1
    found = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: found[name] for name in model.inputs}


@pytest.mark.parametrize("name", KNOWN)
def test_logits_are_those_of_transformers(name: str) -> None:
    model = SequenceClassifier(classifier(name)).eval()
    lean = Lean.of(model)
    assert lean is not None
    given = inputs(model, model.classifier.config.pad_token_id)
    with torch.no_grad():
        assert torch.allclose(lean(*given.values()), model(given), atol=1e-6)


@pytest.mark.parametrize("place", ["queries", "shape"])
def test_a_changed_weight_changes_the_logits(place: str) -> None:
    """The negative control: what the test above compares does depend on the weights."""
    model = SequenceClassifier(classifier("Bert")).eval()
    lean = Lean.of(model)
    assert lean is not None
    given = inputs(model, 0)
    with torch.no_grad():
        layer: Any = lean.queries[1] if place == "queries" else lean.shape.blocks[2].value
        expected = model(given)
        layer.weight.mul_(100)
        assert not torch.allclose(lean(*given.values()), expected, atol=1e-4)


def test_an_unknown_encoder_has_no_lean_form_and_is_exported_as_it_is(tmp_path: Path) -> None:
    model = SequenceClassifier(classifier("Bert", is_decoder=True)).eval()
    assert Lean.of(model) is None
    write_onnx(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size > 10_000


def test_the_graph_has_few_operations(tiny_run: Path, tmp_path: Path) -> None:
    """Shapes that cannot change are no operations, and no mask is guarded against rows that see nothing."""
    model = load_checkpoint(tiny_run / "checkpoint")
    write_onnx(model, tmp_path / "model.onnx")
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    layers = model.classifier.config.num_hidden_layers
    assert kinds["Softmax"] == layers
    assert kinds["Transpose"] <= 4 * layers + 1
    assert not kinds["IsNaN"] + kinds["Where"]
    assert kinds.total() <= 25 * layers + 30
