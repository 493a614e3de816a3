from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from bertie.tokens import Tokens
from bertie.train.device import Machine
from bertie.train.forward import Padded, Unpadded, forward_of
from bertie.train.model import SequenceClassifier
from bertie.train.packed import Packed, Shape

CPU = torch.device("cpu")
LENGTHS = [5, 9, 9, 3, 140, 12, 9, 30]
KNOWN = ["Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "DistilBert"]


def tokens(types: bool = False) -> Tokens:
    random = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    of_second = np.zeros(starts[-1], dtype=np.int8)
    if types:
        of_second[starts[4] + 70 : starts[5]] = 1
    ids = random.integers(5, 200, starts[-1]).astype(np.int32)
    return Tokens(ids, of_second, starts, np.arange(len(LENGTHS)), np.zeros(len(LENGTHS), dtype=np.bool_))


def classifier(name: str, **more: Any) -> Any:
    import transformers

    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    if name == "DistilBert":
        sizes = {"dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 96}
    if name == "Electra":
        sizes["embedding_size"] = 48
    config = getattr(transformers, f"{name}Config")(vocab_size=200, max_position_embeddings=256, **(sizes | more))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForSequenceClassification")(config).eval()


@pytest.mark.parametrize("name", KNOWN)
def test_logits_and_gradients_are_those_of_transformers(name: str) -> None:
    model = classifier(name)
    shape = Shape.of(model)
    assert shape is not None
    some, data = np.array([3, 1, 4, 0, 7, 6, 2]), tokens(types=name == "Bert")
    takes = inspect.signature(model.forward).parameters
    inputs = {key: torch.from_numpy(a) for key, a in data.pad(some, model.config.pad_token_id).items() if key in takes}
    expected = model(**inputs).logits
    found = Packed(shape, Machine(CPU, torch.float32)).logits(data, some)
    assert torch.allclose(found, expected, atol=1e-6)

    weight = torch.randn_like(expected)
    gradients = []
    for logits in (found, expected):
        model.zero_grad()
        (logits * weight).sum().backward()
        # A key's bias moves all scores of a row alike, which softmax does not see: its gradient is noise around zero.
        named = ((key, p.grad) for key, p in model.named_parameters() if not key.endswith(("key.bias", "k_lin.bias")))
        gradients.append({key: gradient.clone() for key, gradient in named if gradient is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][key], gradients[1][key], atol=1e-5) for key in gradients[0])


def test_the_last_layer_computes_the_first_tokens_alone() -> None:

    model = classifier("Bert")
    rows: list[int] = []
    model.bert.encoder.layer[-1].output.register_forward_hook(lambda _, __, output: rows.append(output.shape[0]))
    model.bert.encoder.layer[0].output.register_forward_hook(lambda _, __, output: rows.append(output.shape[0]))
    shape = Shape.of(model)
    assert shape is not None
    Packed(shape, Machine(CPU, torch.float32)).logits(tokens(), np.arange(len(LENGTHS)))
    assert rows == [sum(LENGTHS), len(LENGTHS)]


def test_what_is_put_together_otherwise_is_run_by_transformers() -> None:
    machine = Machine(CPU, torch.float32)
    other = classifier("Electra", embedding_size=24)  # has a projection between embeddings and layers
    assert Shape.of(other) is None
    assert isinstance(forward_of(SequenceClassifier(other), machine, 0), Padded)
    assert isinstance(forward_of(SequenceClassifier(classifier("Bert")), machine, 0), Unpadded)
    decoder = classifier("Bert", is_decoder=True)
    assert Shape.of(decoder) is None


def test_a_modernbert_trains_too() -> None:
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    config = ModernBertConfig(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=256,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
    )
    model = SequenceClassifier(ModernBertForSequenceClassification(config).eval())
    forward = forward_of(model, Machine(CPU, torch.float32), 0)
    assert isinstance(forward, Padded)
    some = np.array([3, 1, 0])
    together = forward(tokens(), some, np.arange(3), 3)
    alone = forward(tokens(), some[1:2], np.arange(1), 1)
    assert torch.allclose(together[1], alone[0], atol=1e-5)
