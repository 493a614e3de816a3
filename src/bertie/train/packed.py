"""The forward pass of BERT-shaped encoders without padding: all texts of a batch end to end in one row of tokens.

It computes with the modules of the transformers model, in the order of Devlin et al. 2019, and leaves out what the
answer does not need: padding, and in the last layer every token but the first of each text, which the head reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bertie.tokens import Tokens
from bertie.train.attention import Layout, Varlen, attend
from bertie.train.device import Machine, has_varlen, to_device


@dataclass(frozen=True)
class Block:
    """One layer: attention, mixed into the tokens, then the feed-forward part."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    mix: Callable[[Tensor, Tensor], Tensor]  # attention's output and the layer's input, both [tokens, width]
    feed: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """The parts of a transformers classifier, under names that all BERT-shaped encoders share."""

    embed: Callable[[Tensor, Tensor, Tensor], Tensor]  # ids, positions, types, each [1, tokens]
    blocks: list[Block]
    head: Callable[[Tensor], Tensor]  # [texts, 1, width] to [texts, labels]
    heads: int
    first_position: int = 0

    @classmethod
    def of(cls, classifier: Any) -> Shape | None:
        """Return the parts of a classifier; None for an encoder that is put together in another way."""
        find = _SHAPES.get(classifier.config.model_type)
        return None if find is None else find(classifier)


class Packed:
    """Runs a classifier of a known shape over unpadded texts."""

    def __init__(self, shape: Shape, machine: Machine) -> None:
        self._shape, self._device = shape, machine.device
        half = machine.dtype in {torch.float16, torch.bfloat16}
        self._varlen = _kernel() if half and has_varlen(machine.device) else None

    def logits(self, tokens: Tokens, windows: NDArray[np.int64]) -> Tensor:
        """Return the logits of some windows, [windows, labels]."""
        lengths = tokens.lengths[windows]
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        layout = Layout.of(lengths, self._device)
        # Counts on within each text, longest first: 0, 1, 2, ..., 0, 1, 2, ...
        positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.repeat(tokens.starts[windows[order]], lengths) + positions
        ids, at, types = (
            to_device(values.astype(np.int64), self._device)[None]
            for values in (tokens.ids[places], positions + self._shape.first_position, tokens.types[places])
        )
        hidden = self._shape.embed(ids, at, types)[0]
        for block in self._shape.blocks[:-1]:
            hidden = self._block(block, hidden, hidden, layout)
        # The head reads the first token of each text alone, so that the last layer computes nothing for the others.
        hidden = self._block(self._shape.blocks[-1], hidden[layout.starts], hidden, layout)
        found = self._shape.head(hidden[:, None])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found[to_device(back, self._device)]

    def _block(self, block: Block, asking: Tensor, hidden: Tensor, layout: Layout) -> Tensor:
        """Compute a layer for the tokens `asking`, which attend to the tokens `hidden` of their texts."""
        if asking is hidden:
            both = _linear((block.query, block.key, block.value), hidden)
            queries, keys_values = torch.split(both, [hidden.shape[1], 2 * hidden.shape[1]], dim=1)
        else:
            queries, keys_values = block.query(asking), _linear((block.key, block.value), hidden)
        found = attend(queries, keys_values, self._shape.heads, layout, self._varlen)
        return block.feed(block.mix(found, asking))


def _linear(layers: tuple[nn.Linear, ...], values: Tensor) -> Tensor:
    """Return the outputs of several layers side by side, as one matrix product."""
    weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
    return functional.linear(values, weight, bias)


def _kernel() -> Varlen:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - not in every build of PyTorch

    kernel: Any = varlen_attn
    return cast("Varlen", kernel)


def _bert(classifier: Any) -> Shape | None:
    model, config = classifier.base_model, classifier.config
    if config.is_decoder or hasattr(model, "embeddings_project"):
        return None

    def embed(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        hidden: Tensor = model.embeddings(input_ids=ids, position_ids=positions, token_type_ids=types)
        return hidden

    # BERT has a pooler between encoder and classifier; its descendants have all in the classifier.
    pooled = getattr(model, "pooler", None) is not None
    head = (lambda x: classifier.classifier(classifier.dropout(model.pooler(x)))) if pooled else classifier.classifier
    after_padding = config.model_type in {"roberta", "xlm-roberta", "camembert"}
    return Shape(
        embed,
        [_bert_block(layer) for layer in model.encoder.layer],
        head,
        config.num_attention_heads,
        first_position=config.pad_token_id + 1 if after_padding else 0,
    )


def _bert_block(layer: Any) -> Block:
    attention = layer.attention.self
    return Block(
        attention.query,
        attention.key,
        attention.value,
        layer.attention.output,
        lambda x: layer.output(layer.intermediate(x), x),
    )


def _distilbert(classifier: Any) -> Shape:
    model = classifier.distilbert

    def embed(ids: Tensor, positions: Tensor, _: Tensor) -> Tensor:
        hidden: Tensor = model.embeddings(input_ids=ids, position_ids=positions)
        return hidden

    def head(hidden: Tensor) -> Tensor:
        found: Tensor = classifier.classifier(classifier.dropout(classifier.pre_classifier(hidden[:, 0]).relu()))
        return found

    return Shape(
        embed, [_distilbert_block(layer) for layer in model.transformer.layer], head, classifier.config.n_heads
    )


def _distilbert_block(layer: Any) -> Block:
    attention = layer.attention
    return Block(
        attention.q_lin,
        attention.k_lin,
        attention.v_lin,
        lambda found, x: layer.sa_layer_norm(attention.out_lin(found) + x),
        lambda x: layer.output_layer_norm(layer.ffn(x) + x),
    )


_SHAPES: dict[str, Callable[[Any], Shape | None]] = {
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "camembert": _bert,
    "electra": _bert,
    "distilbert": _distilbert,
}
