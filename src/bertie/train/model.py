"""The encoder with its classification head, and how the windows of a long text become one answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from bertie.scores import Kind
from bertie.train.base_models import Base

Inputs: TypeAlias = dict[str, Tensor]


class SequenceClassifier(nn.Module):
    """A sequence classifier; the logits of a text of several windows are the mean over them, see forward.py."""

    classifier: Any  # one of transformers' *ForSequenceClassification

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.inputs = [
            name
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if name in inspect.signature(classifier.forward).parameters
        ]

    def forward(self, windows: Inputs) -> Tensor:
        """Return logits [windows, labels]."""
        logits: Tensor = self.classifier(**{name: windows[name] for name in self.inputs}).logits
        return logits

    def freeze_embeddings(self) -> None:
        """Leave the embeddings as they are: words, and where there are any, positions, types and their norm."""
        model = self.classifier.base_model
        getattr(model, "embeddings", model.get_input_embeddings()).requires_grad_(False)


def build(base: Base, labels: tuple[str, ...], kind: Kind) -> SequenceClassifier:
    """Load the encoder and put a new head on it. Its label names are those that transformers will show."""
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415 - seconds to import

    with quiet():
        classifier = AutoModelForSequenceClassification.from_pretrained(
            base.folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="multi_label_classification" if kind == "multi-label" else "single_label_classification",
            # A base that was itself a classifier brings a head of another size; this task needs a new one.
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
        )
    return SequenceClassifier(classifier)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and load report away; that the head is new is what was asked for."""
    from transformers.utils import logging  # noqa: PLC0415

    before: Any = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
