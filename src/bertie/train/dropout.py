"""Dropout that does not wait for random numbers: on a CPU, PyTorch's draws one number an element, and that is slow."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ByteDropout(nn.Dropout):
    """Dropout that decides with one random byte an element, eight from one draw.

    The share dropped is the nearest multiple of 1/256 (for 0.1: 0.1016), and what stays is scaled by just that share.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch.nn.Dropout
        """Return the input with some elements zero, in training; the input itself otherwise."""
        dropped = round(self.p * 256)
        if not self.training or not dropped:
            return input
        if input.device.type != "cpu":
            return super().forward(input)
        draws = torch.empty((input.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.uint8)[: input.numel()].view(input.shape) >= dropped
        return input * keep.to(input.dtype).mul_(256 / (256 - dropped))


def use_fast_dropout(model: nn.Module, share: float | None = None) -> None:
    """Put ByteDropout in the place of every dropout of a model, with another share if one is given."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout and child.p < 1.0:
                setattr(module, name, ByteDropout(child.p if share is None else share))
