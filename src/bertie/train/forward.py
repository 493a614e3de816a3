"""How a model computes the logits of texts: without padding where its shape is known, else as transformers does."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertie.tokens import Tokens, by_length, pooled
from bertie.train.device import Machine, to_device
from bertie.train.model import SequenceClassifier
from bertie.train.packed import Packed, Shape


class Forward(Protocol):
    """Computes logits."""

    def __call__(self, tokens: Tokens, windows: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Tensor:
        """Return the logits of `count` texts in fp32, [texts, labels]; `rows` says which text a window belongs to."""


def forward_of(model: SequenceClassifier, machine: Machine, pad_id: int) -> Forward:
    """Return the fastest way to run a model, whose weights are on the machine's device and in its format."""
    shape = Shape.of(model.classifier)
    return Padded(model, machine.device, pad_id) if shape is None else Unpadded(Packed(shape, machine))


class Padded:
    """Runs the model as transformers does: texts padded to the longest, and a mask."""

    def __init__(self, model: SequenceClassifier, device: torch.device, pad_id: int) -> None:
        self._model, self._device, self._pad_id = model, device, pad_id

    def __call__(self, tokens: Tokens, windows: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Tensor:
        """See Forward."""
        arrays = tokens.pad(windows, self._pad_id)
        inputs = {name: to_device(array, self._device) for name, array in arrays.items()}
        return _pool(self._model(inputs), rows, count)


class Unpadded:
    """Runs the model over texts end to end."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed

    def __call__(self, tokens: Tokens, windows: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Tensor:
        """See Forward."""
        return _pool(self._packed.logits(tokens, windows), rows, count)


def _pool(logits: Tensor, rows: NDArray[np.int64], count: int) -> Tensor:
    """Return the mean logits of the windows of each text in fp32: from [windows, labels] to [count, labels]."""
    logits = logits.float()
    if len(rows) == count:
        return logits
    sums = logits.new_zeros((count, logits.shape[1])).index_add(0, to_device(rows, logits.device), logits)
    # Counted here, because a GPU would make the CPU wait for the result.
    return sums / to_device(np.bincount(rows, minlength=count)[:, None], logits.device)


@torch.inference_mode()
def logits_of(forward: Forward, tokens: Tokens, batch_tokens: int) -> NDArray[np.float32]:
    """Return the logits of all texts, [texts, labels], computed in order of length. The model must be in eval mode."""
    found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for windows in by_length(tokens.lengths, len(tokens.rows), batch_tokens):
        rows = np.arange(len(windows))
        found.append((windows, forward(tokens, windows, rows, len(windows)).cpu().numpy()))
    answer = np.empty((len(tokens.rows), found[0][1].shape[1]), dtype=np.float32)
    for windows, logits in found:
        answer[windows] = logits
    return pooled(answer, tokens.rows, len(tokens.truncated))
