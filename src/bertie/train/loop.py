"""The training loop: one screen, a generator. It does no input or output; the caller logs, evaluates, saves, stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bertie.tokens import Tokens, by_length, pooled
from bertie.train.batches import Batches, Part
from bertie.train.loss import Loss
from bertie.train.model import PooledClassifier

GRADIENT_NORM = 1.0
"""Gradients longer than this are shortened to it, as in Devlin et al. 2019."""


@dataclass(frozen=True)
class Step:
    """What happened in one update of the weights."""

    update: int
    loss: Tensor  # a scalar, still on the device, so that reading it is the caller's choice
    learning_rate: float
    tokens: int


@dataclass(frozen=True)
class Machine:
    """Where and in which number format the model computes."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        """Return the context in which matrix products run in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def inputs(self, tokens: Tokens, windows: NDArray[np.int64], pad_id: int) -> dict[str, Tensor]:
        """Return the padded inputs of some windows, on the device."""
        return {name: torch.from_numpy(a).to(self.device) for name, a in tokens.pad(windows, pad_id).items()}


def fit(
    model: PooledClassifier,
    tokens: Tokens,
    batches: Batches,
    order: Iterable[NDArray[np.int64]],
    *,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    machine: Machine,
    pad_id: int,
) -> Iterator[Step]:
    """Update `model` in place, once for each batch of `order`, and yield what happened after each update.

    `schedule` gives the learning rate of an update. A batch over the token budget is computed in parts whose gradients
    add up to those of the whole batch.
    """
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype is torch.float16)
    lengths = tokens.lengths
    for update, texts in enumerate(order):
        model.train()
        parts: list[Part] = list(batches.parts(texts))
        weight = loss.weight(texts)
        total = torch.zeros((), device=machine.device)
        for part in parts:
            windows = machine.inputs(tokens, part.windows, pad_id)
            with machine.autocast():
                logits = model(windows, torch.from_numpy(part.rows).to(machine.device), len(part.texts))
            share = loss(logits, part.texts) / weight
            scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            total += share.detach()
        for group in optimizer.param_groups:
            group["lr"] = schedule(update)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        yield Step(update + 1, total, schedule(update), sum(int(lengths[part.windows].sum()) for part in parts))


@torch.inference_mode()
def logits_of(
    model: PooledClassifier, tokens: Tokens, machine: Machine, pad_id: int, batch_tokens: int
) -> NDArray[np.float32]:
    """Return the logits of all texts, [texts, labels], computed in order of length."""
    model.eval()
    found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for windows in by_length(tokens.lengths, len(tokens.rows), batch_tokens):
        with machine.autocast():
            rows = torch.arange(len(windows), device=machine.device)
            logits = model(machine.inputs(tokens, windows, pad_id), rows, len(windows))
        found.append((windows, logits.cpu().numpy()))
    answer = np.empty((len(tokens.rows), found[0][1].shape[1]), dtype=np.float32)
    for windows, logits_found in found:
        answer[windows] = logits_found
    return pooled(answer, tokens.rows, len(tokens.truncated))
