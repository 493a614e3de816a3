"""The weights in training: fp32 in one flat array with AdamW's state, and the copy that the model computes with.

One array makes the step one pass over memory, the length of the gradient one number, the sum over machines one call
and a checkpoint four tensors.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bertie.train.dropout import use_fast_dropout
from bertie.train.model import SequenceClassifier

GRADIENT_NORM = 1.0
"""Gradients longer than this are shortened to it, as in Devlin et al. 2019."""

FIRST_SCALE = 2.0**16
"""What the loss is multiplied by in fp16 at first, so that small gradients do not vanish (Micikevicius et al. 2018)."""


class Weights:
    """The trained parameters of a model, their gradients and AdamW's state.

    `model` keeps the fp32 weights; `computing` has them in `dtype` and is what runs. In fp32 both are the same module.
    Parameters that are frozen are in no array.
    """

    def __init__(
        self, model: SequenceClassifier, dtype: torch.dtype, *, weight_decay: float, dropout: float | None = None
    ) -> None:
        self.model, self._dropout = model, dropout
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Biases and layer norms do not decay, as in Devlin et al. 2019; they come last in the array.
        ordered = [p for p in trained if p.ndim > 1] + [p for p in trained if p.ndim <= 1]
        decaying = sum(parameter.numel() for parameter in ordered if parameter.ndim > 1)
        self.flat = torch.cat([parameter.detach().reshape(-1) for parameter in ordered])
        self.gradient = torch.zeros_like(self.flat)
        for parameter, view in zip(ordered, _cut(self.flat, ordered), strict=True):
            parameter.data = view
        self._gradients = _cut(self.gradient, ordered)
        self._ordered = ordered
        halves = (
            _with_gradient(self.flat[:decaying], self.gradient[:decaying]),
            _with_gradient(self.flat[decaying:], self.gradient[decaying:]),
        )
        groups = [
            {"params": [part], "weight_decay": decay}
            for part, decay in zip(halves, (weight_decay, 0.0), strict=True)
            if len(part)
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, fused=True)
        self._empty = True
        self.skipped = torch.zeros((), device=self.flat.device)
        self.compute_in(dtype)

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute in this number format from now on; the weights stay what they are."""
        self.dtype = dtype
        self.scale = torch.full((), FIRST_SCALE if dtype is torch.float16 else 1.0, device=self.flat.device)
        self._growth = torch.zeros((), dtype=torch.int32, device=self.flat.device)
        self.computing = self.model if dtype is torch.float32 else _in_format(self.model, dtype)
        use_fast_dropout(self.computing, self._dropout)
        parts = dict(self.computing.named_parameters())
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        self._parts = [parts[names[id(parameter)]] for parameter in self._ordered]
        self._copy = self.flat.to(dtype)
        if self.computing is not self.model:
            for part, view in zip(self._parts, _cut(self._copy, self._ordered), strict=True):
                part.data = view

    def clear(self) -> None:
        """Begin a new gradient, of nothing; what an unfinished batch left is forgotten."""
        for part in self._parts:
            part.grad = None
        self._empty = True

    def collect(self) -> None:
        """Add the gradients of a part of a batch to the flat array."""
        found = [torch.zeros_like(part) if part.grad is None else part.grad for part in self._parts]
        if self._empty:
            torch._foreach_copy_(self._gradients, found)
        else:
            torch._foreach_add_(self._gradients, [gradient.float() for gradient in found])
        for part in self._parts:
            part.grad = None
        self._empty = False

    def step(self, learning_rate: float) -> None:
        """Update the weights from the flat gradient, shortened to GRADIENT_NORM.

        A gradient that holds something that is no number changes nothing and counts in `skipped`. Nothing here waits
        for the device.
        """
        length = torch.linalg.vector_norm(self.gradient) / self.scale
        broken = (~torch.isfinite(length)).float()
        self.skipped += broken
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        # The fused step divides the gradient by one number and does nothing if told so: that is how the scaler of
        # mixed precision talks to it, and it saves a pass over the gradients.
        self._adamw.grad_scale = self.scale * torch.clamp(length / GRADIENT_NORM, min=1.0)  # type: ignore[attr-defined]  # read by the fused kernel
        self._adamw.found_inf = broken  # type: ignore[attr-defined]  # likewise
        self._adamw.step()
        if self.dtype is torch.float16:
            torch._amp_update_scale_(self.scale, self._growth, broken, 2.0, 0.5, 2000)
        self.refresh()

    def refresh(self) -> None:
        """Bring the computing copy up to date with the fp32 weights."""
        if self.computing is not self.model:
            with torch.no_grad():
                self._copy.copy_(self.flat)

    def state(self) -> dict[str, Tensor]:
        """Return all that the next update depends on, as tensors by name; they are the live ones, not copies."""
        found = {"weights": self.flat, "scale": self.scale, "growth": self._growth}
        for number, group in enumerate(self._adamw.param_groups):
            for name, value in self._adamw.state[group["params"][0]].items():
                found[f"adamw.{number}.{name}"] = value
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a state that `state` gave."""
        with torch.no_grad():
            self.flat.copy_(state["weights"])
            self.scale.copy_(state["scale"])
            self._growth.copy_(state["growth"])
        for number, group in enumerate(self._adamw.param_groups):
            prefix = f"adamw.{number}."
            self._adamw.state[group["params"][0]] = {
                name.removeprefix(prefix): value.clone().to(self.flat.device)
                for name, value in state.items()
                if name.startswith(prefix)
            }
        self.refresh()


def _cut(flat: Tensor, like: list[nn.Parameter]) -> list[Tensor]:
    parts = torch.split(flat, [parameter.numel() for parameter in like])
    return [part.view(parameter.shape) for part, parameter in zip(parts, like, strict=True)]


def _with_gradient(flat: Tensor, gradient: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(flat)
    parameter.grad = gradient
    return parameter


def _in_format(model: SequenceClassifier, dtype: torch.dtype) -> SequenceClassifier:
    """Return a copy whose parameters are in another number format; tables such as rotary frequencies stay exact."""
    computing = copy.deepcopy(model)
    for parameter in computing.parameters():
        parameter.data = parameter.data.to(dtype)
    return computing
