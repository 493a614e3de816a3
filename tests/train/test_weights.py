from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bertie.train.base_models import resolve
from bertie.train.model import SequenceClassifier, build
from bertie.train.weights import FIRST_SCALE, Weights


@pytest.fixture
def model(tiny_base: Path) -> SequenceClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build(resolve(str(tiny_base)), ("a", "b"), "single-label")
    built.freeze_embeddings()
    return built


def give(weights: Weights, generator: torch.Generator, size: float = 1.0) -> dict[str, Tensor]:
    """Put random gradients where a backward pass leaves them, and return them by name."""
    names = {id(parameter): name for name, parameter in weights.computing.named_parameters()}
    given = {}
    weights.clear()
    for part in weights._parts:
        part.grad = (torch.randn(part.shape, generator=generator) * size).to(part.dtype)
        given[names[id(part)]] = part.grad.float()
    weights.collect()
    return given


def trained(model: SequenceClassifier) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("size", [1e-4, 10.0], ids=["short gradients", "gradients that are shortened"])
def test_a_step_is_that_of_adamw_after_clipping(model: SequenceClassifier, size: float) -> None:
    other = copy.deepcopy(model)
    parameters = [p for p in other.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(groups, lr=1e-3)
    weights, generator = Weights(model, torch.float32, weight_decay=0.1), torch.Generator().manual_seed(1)
    for _ in range(3):
        given = give(weights, generator, size)
        for name, parameter in other.named_parameters():
            parameter.grad = given.get(name)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        plain.step()
        weights.step(1e-3)
    theirs = trained(other)
    assert all(torch.allclose(value, theirs[name], atol=1e-6) for name, value in trained(model).items())


def test_parts_add_up(model: SequenceClassifier) -> None:
    weights, generator = Weights(model, torch.bfloat16, weight_decay=0.0), torch.Generator().manual_seed(1)
    give(weights, generator)
    one = weights.gradient.clone()
    for part in weights._parts:
        part.grad = torch.full_like(part, 0.5)
    weights.collect()
    assert torch.equal(weights.gradient, one + 0.5)


def test_the_copy_follows_the_exact_weights(model: SequenceClassifier) -> None:
    weights = Weights(model, torch.bfloat16, weight_decay=0.0)
    assert weights.computing is not model
    assert {p.dtype for p in weights.computing.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before = trained(model)
    give(weights, torch.Generator().manual_seed(1))
    weights.step(1e-3)
    now = trained(model)
    assert any(not torch.equal(before[name], now[name]) for name in now)
    copies = dict(weights.computing.named_parameters())
    assert all(torch.equal(copies[name], value.to(torch.bfloat16)) for name, value in now.items())


def test_updates_too_small_for_the_copy_are_not_lost(model: SequenceClassifier) -> None:
    weights, generator = Weights(model, torch.bfloat16, weight_decay=0.0), torch.Generator().manual_seed(1)
    before = weights.flat.clone()
    for _ in range(3):
        give(weights, generator)
        weights.step(1e-7)
    assert not torch.equal(before, weights.flat)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_gradient_changes_nothing_and_is_counted(model: SequenceClassifier, broken: float) -> None:
    weights, generator = Weights(model, torch.bfloat16, weight_decay=0.1), torch.Generator().manual_seed(1)
    give(weights, generator)
    weights.step(1e-3)
    state = {name: value.clone() for name, value in weights.state().items() if "step" not in name}
    give(weights, generator)
    weights.gradient[7] = broken
    weights.step(1e-3)
    assert float(weights.skipped) == 1
    assert all(torch.equal(value, weights.state()[name]) for name, value in state.items())
    give(weights, generator)
    weights.step(1e-3)
    assert float(weights.skipped) == 1
    assert not torch.equal(state["weights"], weights.flat)


def test_fp16_scales_the_loss_and_halves_the_scale_where_it_overflows(model: SequenceClassifier) -> None:
    weights, generator = Weights(model, torch.float16, weight_decay=0.0), torch.Generator().manual_seed(1)
    assert float(weights.scale) == FIRST_SCALE
    give(weights, generator)
    weights.gradient[0] = float("inf")
    weights.step(1e-3)
    assert float(weights.scale) == FIRST_SCALE / 2
    weights.compute_in(torch.float32)
    assert float(weights.scale) == 1
    assert weights.computing is model


def test_its_state_is_all_that_the_next_update_needs(model: SequenceClassifier) -> None:
    other = copy.deepcopy(model)
    weights, generator = Weights(model, torch.bfloat16, weight_decay=0.1), torch.Generator().manual_seed(1)
    for _ in range(2):
        give(weights, generator)
        weights.step(1e-3)
    resumed = Weights(other, torch.bfloat16, weight_decay=0.1)
    resumed.load_state({name: value.clone() for name, value in weights.state().items()})
    for one in (weights, resumed):
        give(one, torch.Generator().manual_seed(2))
        one.step(1e-3)
    assert torch.equal(weights.flat, resumed.flat)
    copies = (dict(one.computing.named_parameters()) for one in (weights, resumed))
    assert all(torch.equal(a, b) for a, b in zip(*(list(c.values()) for c in copies), strict=True))
