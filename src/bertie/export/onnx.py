"""The classifier as an ONNX graph with any number of rows and tokens."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from bertie.errors import ExportError
from bertie.export.lean import Lean
from bertie.train.model import SequenceClassifier

OPSET = 20


class _Logits(nn.Module):
    """A classifier of a shape that Lean does not know, with plain tensors in and one out, as a graph needs it."""

    def __init__(self, model: SequenceClassifier) -> None:
        super().__init__()
        self.names = model.inputs
        self.classifier = model.classifier

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.classifier(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def plain(model: SequenceClassifier) -> nn.Module:
    """Return the classifier with plain tensors in, those of `model.inputs`, and logits [rows, labels] out."""
    return Lean.of(model) or _Logits(model).eval()


def write_onnx(model: SequenceClassifier, path: Path) -> None:
    """Write the graph, and beside it its weights, which processes can then map.

    Raises ExportError for a model that PyTorch cannot export.
    """
    wrapped = plain(model)
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    # A tensor of its own for each input: the exporter takes one tensor given twice for one input.
    examples = tuple(torch.ones((3, 7), dtype=torch.int64) for _ in model.inputs)
    try:
        with _quiet():
            torch.onnx.export(
                wrapped,
                examples,
                str(path),
                input_names=model.inputs,
                output_names=["logits"],
                dynamic_shapes=(tuple({0: rows, 1: tokens} for _ in model.inputs),),
                opset_version=OPSET,
                external_data=True,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what any of its stages raises
        raise ExportError(
            f"this model cannot be exported to ONNX: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            hint="train with another --base; the checkpoint itself is unharmed",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own insides away from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
