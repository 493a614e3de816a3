"""The classifier as few and plain operations, for engines that pay for each one.

The same arithmetic as the transformers model (Devlin et al. 2019), arranged for inference: the queries' weights carry
attention's scale, attention is two products and a softmax that engines recognize and fuse, and the last layer computes
the first token of each text alone, which is all that the head reads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bertie.train.model import SequenceClassifier
from bertie.train.packed import Shape

MASKED = -1e4
"""Added to attention's scores of padding: e to its power is 0 in fp32 as in bf16, and it fits fp16."""


class Lean(nn.Module):
    """A classifier of a known shape; takes what the transformers model takes, and gives its logits."""

    def __init__(self, model: SequenceClassifier, shape: Shape) -> None:
        super().__init__()
        self.classifier = model.classifier  # registers the weights that the functions of `shape` read
        self.shape = shape
        self.queries = nn.ModuleList(_scaled(block.query, shape.heads) for block in shape.blocks)

    @classmethod
    def of(cls, model: SequenceClassifier) -> Lean | None:
        """Return the lean form of a model; None for an encoder that is put together in another way."""
        shape = Shape.of(model.classifier)
        return None if shape is None else cls(model, shape).eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits [rows, labels] of ids, mask and (if it has them) types, all [rows, tokens]."""
        ids, mask, *rest = inputs
        types = rest[0] if rest else torch.zeros_like(ids)
        rows, tokens = ids.shape
        positions = torch.arange(tokens)[None] + self.shape.first_position
        hidden = self.shape.embed(ids, positions, types)
        bias = ((1 - mask.to(hidden.dtype)) * MASKED)[:, None, None]
        last = len(self.shape.blocks) - 1
        for place, (block, query) in enumerate(zip(self.shape.blocks, self.queries, strict=True)):
            asking = hidden if place < last else hidden[:, :1]
            split = (rows, -1, self.shape.heads, hidden.shape[-1] // self.shape.heads)
            scores = query(asking).reshape(split).transpose(1, 2) @ block.key(hidden).reshape(split).permute(0, 2, 3, 1)
            found = (scores + bias).softmax(-1) @ block.value(hidden).reshape(split).transpose(1, 2)
            hidden = block.feed(block.mix(found.transpose(1, 2).reshape(asking.shape), asking))
        return self.shape.head(hidden)


def _scaled(query: nn.Linear, heads: int) -> nn.Linear:
    """Return the layer with attention's 1 / sqrt(width of a head) in its weights."""
    scaled = nn.Linear(query.in_features, query.out_features)
    scale = 1 / math.sqrt(query.out_features // heads)
    with torch.no_grad():
        scaled.weight.copy_(query.weight * scale)
        scaled.bias.copy_(query.bias * scale)
    return scaled
