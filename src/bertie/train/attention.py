"""Attention over texts that lie end to end, without padding.

On a CPU the texts of one length are one batched matrix product; on a GPU PyTorch's kernel for texts of any lengths
does all at once. Neither drops attention weights in training: the GPU kernel cannot, and no difference was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bertie.train.device import to_device

LONG = 384
"""Texts of more tokens than this take PyTorch's fused kernel, which does not keep the weights of all pairs of tokens;
up to there plain matrix products are faster on a CPU, eleven times at 16 tokens, half as fast again at 256."""

Varlen: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class Group:
    """Neighbouring texts of one length."""

    first_text: int
    first_token: int
    count: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Where the texts lie in the flat arrays: longest first."""

    lengths: NDArray[np.int64]
    starts: Tensor  # [texts], the first token of each, on the device
    bounds: Tensor  # [texts + 1], int32, on the device

    @classmethod
    def of(cls, lengths: NDArray[np.int64], device: torch.device) -> Layout:
        """Lay out texts of these lengths, which must not rise."""
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        return cls(
            lengths,
            to_device(bounds[:-1], device),
            to_device(bounds.astype(np.int32), device),
        )

    @cached_property
    def groups(self) -> list[Group]:
        """The texts by length; the same for every layer."""
        sizes, firsts, counts = np.unique(-self.lengths, return_index=True, return_counts=True)
        tokens = np.concatenate([[0], np.cumsum(-sizes * counts)])
        return [
            Group(int(first), int(token), int(count), int(-size))
            for first, token, count, size in zip(firsts, tokens, counts, sizes, strict=False)
        ]


def attend(queries: Tensor, keys_values: Tensor, heads: int, layout: Layout, varlen: Varlen | None = None) -> Tensor:
    """Return what each query takes from the tokens of its own text, as `queries` [tokens or texts, width].

    `keys_values` is [tokens, 2 * width]. With one query a text, only these are computed. `varlen` is PyTorch's kernel
    for texts of any lengths; without it the texts go by length.
    """
    if varlen is not None:
        return _varlen(queries, keys_values, heads, layout, varlen)
    whole = len(queries) == len(keys_values)
    outputs, groups = [], layout.groups
    long = [group for group in groups if group.length > LONG]
    short = groups[len(long) :]
    for rows, tokens, asked, group in _places(long, whole):
        outputs.append(_fused(queries[rows], keys_values[tokens], heads, group, asked))
    if short:
        query, token = (short[0].first_token if whole else short[0].first_text), short[0].first_token
        moved = [Group(g.first_text - short[0].first_text, g.first_token - token, g.count, g.length) for g in short]
        # PyTorch has no types for `apply`.
        outputs.append(_ByLength.apply(queries[query:], keys_values[token:], heads, moved, whole))  # type: ignore[no-untyped-call]  # no types
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _varlen(queries: Tensor, keys_values: Tensor, heads: int, layout: Layout, varlen: Varlen) -> Tensor:
    width = queries.shape[1]
    keys, values = keys_values.view(len(keys_values), 2, heads, width // heads).unbind(1)
    whole = len(queries) == len(keys_values)
    longest = int(layout.lengths[0])
    of_queries = layout.bounds if whole else torch.arange(len(queries) + 1, dtype=torch.int32, device=queries.device)
    found = varlen(
        queries.view(len(queries), heads, width // heads),
        keys,
        values,
        of_queries,
        layout.bounds,
        longest if whole else 1,
        longest,
    )
    return found.reshape(len(queries), width)


def _fused(queries: Tensor, keys_values: Tensor, heads: int, group: Group, asked: int) -> Tensor:
    """Attend in the texts of one length, each with `asked` queries, with PyTorch's fused kernel."""
    query = queries.view(group.count, asked, heads, -1).transpose(1, 2)
    keys, values = keys_values.view(group.count, group.length, 2, heads, -1).permute(2, 0, 3, 1, 4)
    found = functional.scaled_dot_product_attention(query, keys, values)
    return found.transpose(1, 2).reshape(queries.shape)


class _ByLength(torch.autograd.Function):
    """Attention in groups of one length. By hand, because automatic slices make a copy of all tokens for each group."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys_values: Tensor, heads: int, groups: list[Group], whole: bool) -> Tensor:
        width = queries.shape[1]
        output, kept = torch.empty_like(queries), []
        for rows, tokens, asked, group in _places(groups, whole):
            query = queries[rows].view(group.count, asked, heads, -1).transpose(1, 2)
            query = (query * (width // heads) ** -0.5).reshape(group.count * heads, asked, -1)
            keys, values = (
                keys_values[tokens]
                .view(group.count, group.length, 2, heads, -1)
                .permute(2, 0, 3, 1, 4)
                .reshape(2, group.count * heads, group.length, -1)
            )
            weights = torch.bmm(query, keys.transpose(1, 2)).softmax(-1)
            found = torch.bmm(weights, values).view(group.count, heads, asked, -1)
            output[rows].view(group.count, asked, heads, -1).copy_(found.transpose(1, 2))
            kept += [query, keys, values, weights]
        ctx.save_for_backward(*kept)
        ctx.heads, ctx.groups, ctx.whole, ctx.tokens = heads, groups, whole, len(keys_values)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        heads, width, kept = ctx.heads, gradient.shape[1], ctx.saved_tensors
        to_queries, to_tokens = torch.empty_like(gradient), gradient.new_empty((ctx.tokens, 2 * width))
        for place, (rows, tokens, asked, group) in enumerate(_places(ctx.groups, ctx.whole)):
            query, keys, values, weights = kept[4 * place : 4 * place + 4]
            given = gradient[rows].view(group.count, asked, heads, -1).transpose(1, 2)
            given = given.reshape(group.count * heads, asked, -1)
            into_weights = torch.bmm(given, values.transpose(1, 2))
            # The derivative of softmax: each weight by how much its gradient is over the mean of its row.
            into_scores = torch._softmax_backward_data(into_weights, weights, -1, weights.dtype)
            both = gradient.new_empty((2, *keys.shape))
            torch.bmm(into_scores.transpose(1, 2), query, out=both[0])
            torch.bmm(weights.transpose(1, 2), given, out=both[1])
            to_tokens[tokens].view(group.count, group.length, 2, heads, -1).copy_(
                both.view(2, group.count, heads, group.length, -1).permute(1, 3, 0, 2, 4)
            )
            into_query = torch.bmm(into_scores, keys).mul_((width // heads) ** -0.5)
            to_queries[rows].view(group.count, asked, heads, -1).copy_(
                into_query.view(group.count, heads, asked, -1).transpose(1, 2)
            )
        return to_queries, to_tokens, None, None, None


def _places(groups: list[Group], whole: bool) -> list[tuple[slice, slice, int, Group]]:
    """Return for each group the rows of its queries, of its tokens, and the queries a text has."""
    places = []
    for group in groups:
        asked = group.length if whole else 1
        first = group.first_token if whole else group.first_text
        rows = slice(first, first + group.count * asked)
        places.append((rows, slice(group.first_token, group.first_token + group.count * group.length), asked, group))
    return places
