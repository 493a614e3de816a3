from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bertie.config import TrainSettings
from bertie.errors import UsageError
from bertie.tokens import TextLimits, pooled
from bertie.train.base_models import resolve
from bertie.train.device import Machine
from bertie.train.forward import Padded, forward_of, logits_of
from bertie.train.limits import text_encoder, text_limits
from bertie.train.model import build

MACHINE = Machine(torch.device("cpu"), torch.float32)


def test_label_names_reach_the_config(tiny_base: Path) -> None:
    model = build(resolve(str(tiny_base)), ("no", "yes"), "single-label")
    assert model.classifier.config.id2label == {0: "no", 1: "yes"}
    assert model.classifier.config.problem_type == "single_label_classification"


def test_windows_are_pooled_in_training_as_in_the_runtime(tiny_base: Path) -> None:
    base = resolve(str(tiny_base))
    model = build(base, ("a", "b", "c"), "single-label").eval()
    tokens = text_encoder(base, TextLimits(10, "windows", 2)).encode(["one " * 30, "two", "three " * 12])
    windows = np.arange(len(tokens.rows))
    for forward in (forward_of(model, MACHINE, 0), Padded(model, MACHINE.device, 0)):
        with torch.no_grad():
            alone = forward(tokens, windows, windows, len(windows)).numpy()
            together = forward(tokens, windows, tokens.rows, 3).numpy()
        assert np.allclose(together, pooled(alone, tokens.rows, 3), atol=1e-6)
        assert np.allclose(together, logits_of(forward, tokens, 30), atol=1e-5)


def test_frozen_embeddings_get_no_gradient(tiny_base: Path) -> None:
    model = build(resolve(str(tiny_base)), ("a", "b"), "single-label")
    model.freeze_embeddings()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen
    assert all(name.startswith("classifier.bert.embeddings.") for name in frozen)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert not any("embeddings" in name for name in learning)


def test_a_window_takes_all_that_the_base_offers_and_not_more(tiny_base: Path) -> None:
    base = resolve(str(tiny_base))
    assert text_limits(base, TrainSettings()).max_tokens == 64
    assert text_limits(base, TrainSettings(max_tokens=16, long="windows", overlap=3)).overlap == 3
    with pytest.raises(UsageError, match=r"more than .* can read at once"):
        text_limits(base, TrainSettings(max_tokens=65))
