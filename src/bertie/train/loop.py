"""The training loop: one screen, a generator. It does no input or output; the caller logs, evaluates, saves, stops."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertie.errors import TrainingError
from bertie.tokens import Tokens
from bertie.train.batches import Batches
from bertie.train.device import out_of_memory
from bertie.train.forward import Forward
from bertie.train.loss import Objective
from bertie.train.weights import Weights


@dataclass(frozen=True)
class Step:
    """What happened in one update of the weights."""

    update: int
    loss: Tensor  # a scalar, still on the device, so that reading it is the caller's choice
    learning_rate: float
    tokens: int


def fit(
    weights: Weights,
    forward: Callable[[], Forward],
    tokens: Tokens,
    batches: Batches,
    order: Iterable[tuple[int, NDArray[np.int64]]],
    *,
    loss: Objective,
    schedule: Callable[[int], float],
    add_up: Callable[[Tensor], None],
) -> Iterator[Step]:
    """Update the weights once for each batch of `order` (update's number, texts), and yield what happened.

    `schedule` gives the learning rate of an update, `forward` how the model computes at that moment, and `add_up` sums
    a tensor over all processes that train together, in place. A batch over the token budget is computed in parts whose
    gradients add up to those of the whole batch; a part that does not fit into memory halves the budget.
    """
    for update, texts in order:
        weights.computing.train()
        run, mine = forward(), batches.share(texts)
        share_of = functools.partial(_share, loss, loss.weight(texts))
        while True:
            try:
                total = _gradient(weights, run, tokens, batches, mine, share_of)
                break
            except (RuntimeError, MemoryError) as error:
                make_room(batches, error)
        add_up(weights.gradient)
        weights.step(schedule(update))
        yield Step(update + 1, total, schedule(update), batches.tokens_in(mine))


def _gradient(
    weights: Weights,
    forward: Forward,
    tokens: Tokens,
    batches: Batches,
    texts: NDArray[np.int64],
    loss: Callable[[Tensor, NDArray[np.int64]], Tensor],
) -> Tensor:
    """Fill the flat gradient with that of some texts, and return their loss."""
    total = torch.zeros((), device=weights.flat.device)
    weights.clear()
    if not len(texts):
        weights.gradient.zero_()
    for part in batches.parts(texts):
        share = loss(forward(tokens, part.windows, part.rows, len(part.texts)), part.texts)
        (share * weights.scale).backward()  # type: ignore[no-untyped-call]  # PyTorch has no types for it
        weights.collect()
        total += share.detach()
    return total


def _share(loss: Objective, weight: float, logits: Tensor, texts: NDArray[np.int64]) -> Tensor:
    """Return what some texts add to the loss of their batch, whose texts weigh `weight`."""
    return loss(logits, texts) / weight


def make_room(batches: Batches, error: RuntimeError | MemoryError) -> None:
    """Halve what is computed at once, if memory ran out; raise the error again if it says something else.

    Raises TrainingError where one text alone is too much.
    """
    if not out_of_memory(error):
        raise error
    if not batches.halve_budget():
        raise TrainingError(
            "memory does not hold the longest text.",
            hint="try --max-tokens 256, or --long windows with a smaller window",
        ) from error
