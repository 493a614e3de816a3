"""What a target is. Each lives in a file of its own; targets.py lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bertie.train.model import SequenceClassifier

Run: TypeAlias = Callable[[dict[str, NDArray[np.int64]]], NDArray[Any]]
"""Computes logits [rows, labels] of `input_ids`, `attention_mask` and `token_type_ids`, each [rows, tokens]."""


@dataclass(frozen=True)
class Trained:
    """A trained model, in memory and on disk."""

    model: SequenceClassifier
    checkpoint: Path


class Target(Protocol):
    """One format that other tools read."""

    imports: str
    """What the example in the README imports beside json, numpy and pathlib, one import a line."""
    usage: str
    """The rest of the example: Python that makes `logits`, an array [rows, labels], of `texts` and `about`."""

    def write(self, trained: Trained, stage: Path) -> None:
        """Write the artifact's files into a folder. Raises ExportError, DependencyMissing."""
        ...

    def load(self, trained: Trained, stage: Path) -> Run:
        """Load what was written, as another tool would; of `trained` only what is no file may be used."""
        ...


TOKENS = """\
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(about["max_tokens"])
tokenizer.enable_padding(pad_id=about["pad_id"])
rows = tokenizer.encode_batch(texts)
columns = {
    "input_ids": [row.ids for row in rows],
    "attention_mask": [row.attention_mask for row in rows],
    "token_type_ids": [row.type_ids for row in rows],
}
inputs = {name: np.array(columns[name], dtype=np.int64) for name in about["inputs"]}
"""
"""The example's way from texts to the inputs of a graph."""
