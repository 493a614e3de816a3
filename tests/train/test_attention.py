from __future__ import annotations

import inspect
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bertie.train import attention
from bertie.train.attention import Layout, attend

CPU = torch.device("cpu")
HEADS, WIDTH = 2, 8


def by_definition(queries: Tensor, keys_values: Tensor, lengths: list[int], whole: bool) -> Tensor:
    """Attend text by text and head by head, as Vaswani et al. 2017 write it."""
    size, outputs, token = WIDTH // HEADS, [], 0
    for number, length in enumerate(lengths):
        mine = queries[token : token + length] if whole else queries[number : number + 1]
        keys, values = keys_values[token : token + length].tensor_split(2, dim=1)
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            heads.append((mine[:, part] @ keys[:, part].T / size**0.5).softmax(-1) @ values[:, part])
        outputs.append(torch.cat(heads, dim=1))
        token += length
    return torch.cat(outputs)


def varlen(q: Tensor, k: Tensor, v: Tensor, of_q: Tensor, of_k: Tensor, longest_q: int, longest_k: int) -> Tensor:
    """Do what PyTorch's GPU kernel does, from what it is given and nothing else."""
    lengths = of_k.diff().tolist()
    assert max(lengths) == longest_k
    assert int(of_q.diff().max()) == longest_q
    assert of_q.dtype == of_k.dtype == torch.int32
    flat = torch.cat([k.reshape(len(k), -1), v.reshape(len(v), -1)], dim=1)
    return by_definition(q.reshape(len(q), -1), flat, lengths, whole=len(q) == len(k)).view_as(q)


def case(lengths: list[int], whole: bool) -> tuple[Tensor, Tensor, Layout]:
    generator = torch.Generator().manual_seed(sum(lengths))
    queries = torch.randn(sum(lengths) if whole else len(lengths), WIDTH, generator=generator, requires_grad=True)
    keys_values = torch.randn(sum(lengths), 2 * WIDTH, generator=generator, requires_grad=True)
    return queries, keys_values, Layout.of(np.array(lengths), CPU)


texts = st.lists(st.integers(1, 9), min_size=1, max_size=12).map(lambda found: sorted(found, reverse=True))


@given(texts, st.booleans(), st.sampled_from([0, 4, 100]))
@settings(max_examples=60, deadline=None)
def test_it_is_attention_within_each_text(lengths: list[int], whole: bool, long: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "LONG", long)  # all by PyTorch's kernel, some, or none
        queries, keys_values, layout = case(lengths, whole)
        found = attend(queries, keys_values, HEADS, layout)
    expected = by_definition(queries, keys_values, lengths, whole)
    assert torch.allclose(found, expected, atol=1e-5)
    weight = torch.randn_like(found)
    ours = torch.autograd.grad((found * weight).sum(), (queries, keys_values))
    theirs = torch.autograd.grad((expected * weight).sum(), (queries, keys_values))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@given(texts, st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_gpu_kernel_is_told_where_each_text_lies(lengths: list[int], whole: bool) -> None:
    queries, keys_values, layout = case(lengths, whole)
    found = attend(queries, keys_values, HEADS, layout, varlen)
    assert torch.allclose(found, by_definition(queries, keys_values, lengths, whole), atol=1e-5)


def test_the_stand_in_takes_what_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention.varlen import varlen_attn

    queries, keys_values, layout = case([3, 2], whole=True)
    given: list[inspect.BoundArguments] = []

    def bound(*arguments: Tensor, **more: Tensor) -> Tensor:
        given.append(inspect.signature(varlen_attn).bind(*arguments, **more))
        return varlen(*arguments, **more)  # type: ignore[arg-type]

    attend(queries, keys_values, HEADS, layout, bound)
    names = ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert list(given[0].arguments)[: len(names)] == names


def test_texts_do_not_see_each_other() -> None:
    queries, keys_values, layout = case([4, 3, 3], whole=True)
    before = attend(queries, keys_values, HEADS, layout).detach().clone()
    with torch.no_grad():
        keys_values[4:7] += 1.0  # the second text
    changed = (attend(queries, keys_values, HEADS, layout) - before).abs().sum(1) > 1e-6
    assert changed.tolist() == [False] * 4 + [True] * 3 + [False] * 3


def test_texts_of_one_length_are_one_group() -> None:
    groups = Layout.of(np.array([7, 5, 5, 5, 2]), CPU).groups
    assert [(g.first_text, g.first_token, g.count, g.length) for g in groups] == [
        (0, 0, 1, 7),
        (1, 7, 3, 5),
        (4, 22, 1, 2),
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_kernel_says_the_same() -> None:
    from torch.nn.attention.varlen import varlen_attn

    gpu = torch.device("cuda")
    layout = Layout.of(np.array([70, 33, 33, 5]), gpu)
    queries, keys_values = (torch.randn(141, n, device=gpu, dtype=torch.bfloat16) for n in (64, 128))
    slow = attend(queries, keys_values, 2, layout)
    fast = attend(queries, keys_values, 2, layout, cast("attention.Varlen", varlen_attn))
    assert torch.allclose(slow, fast, atol=2e-2)
