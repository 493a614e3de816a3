"""The encoder that a small student starts from: a larger one without some of its layers and pieces."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bertie.errors import UsageError
from bertie.scores import Kind
from bertie.tokens import Text
from bertie.train import checkpoint
from bertie.train.base_models import Base, resolve
from bertie.train.model import build
from bertie.train.vocabulary import Trimmed, trim


def shrink(
    base: Base,
    labels: tuple[str, ...],
    kind: Kind,
    layers: Sequence[int],
    out: Path,
    *,
    seed: int,
    texts: Sequence[Text] | None = None,
    frequent: int = 0,
) -> tuple[Base, Trimmed | None]:
    """Write a classifier with some of a base's layers, and the pieces that `texts` need if they are given.

    A base that is a classifier for as many labels keeps its head; another gets one of random weights, which `seed`
    decides. Raises UsageError where layers or vocabulary cannot be cut, OutputError.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(base, labels, kind)
    keep_layers(model.classifier, layers)
    trimmed = None
    with tempfile.TemporaryDirectory(prefix="bertie-") as place:
        whole = out if texts is None else Path(place) / "whole"
        checkpoint.save(model, base, int(model.classifier.config.max_position_embeddings), whole)
        if texts is not None:
            trimmed = trim(whole, texts, out, frequent=frequent)
    return dataclasses.replace(resolve(str(out)), name=base.name, source=base.source), trimmed


def keep_layers(classifier: Any, layers: Sequence[int]) -> None:
    """Leave the other layers out of a transformers classifier, in place, and out of its config.

    Raises UsageError for an encoder whose layers cannot be told from its other parts.
    """
    encoder, config = classifier.base_model, classifier.config
    lists = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if len(lists) != 1:
        raise UsageError(
            f"the layers of a {config.model_type} encoder cannot be dropped: they are not one list.",
            hint="take a base that has as few layers as the student is to have, without --layers",
        )
    (name, whole), kept = lists[0], [*layers]
    above, _, last = name.rpartition(".")
    setattr(encoder.get_submodule(above), last, nn.ModuleList(whole[place] for place in kept))
    config.num_hidden_layers = len(kept)
    # Encoders that alternate between kinds of attention, such as ModernBERT, list the kind of each layer.
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[place] for place in kept]
