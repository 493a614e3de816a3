from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertie.errors import UsageError
from bertie.tokens import TextEncoder, TextLimits
from bertie.train import checkpoint
from bertie.train.base_models import resolve
from bertie.train.device import Machine
from bertie.train.forward import Padded, forward_of, logits_of
from bertie.train.layers import chosen_layers
from bertie.train.model import SequenceClassifier
from bertie.train.shrink import keep_layers, shrink

SIZE = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 4}


def test_layers_are_spread_with_the_first_and_the_last() -> None:
    assert chosen_layers(6, 12, "spread") == (0, 2, 4, 7, 9, 11)  # DistilBERT's own choice
    assert chosen_layers(3, 12, "spread") == (0, 6, 11)
    assert chosen_layers(3, 6, "spread") == (0, 2, 5)
    assert chosen_layers(4, 6, "spread") == (0, 2, 3, 5)
    assert chosen_layers(1, 6, "spread") == (0,)
    assert chosen_layers(3, 6, "first") == (0, 1, 2)
    for of in range(1, 25):
        for keep in range(1, of + 1):
            found = chosen_layers(keep, of, "spread")
            assert len({*found}) == keep
            assert found == tuple(sorted(found))


def test_more_layers_than_there_are_are_refused() -> None:
    for keep in (0, 7):
        with pytest.raises(UsageError, match=f"--layers {keep} cannot be kept of an encoder that has 6"):
            chosen_layers(keep, 6, "spread")


def models() -> dict[str, Any]:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        DistilBertConfig,
        DistilBertForSequenceClassification,
        ElectraConfig,
        ElectraForSequenceClassification,
        ModernBertConfig,
        ModernBertForSequenceClassification,
        RobertaConfig,
        RobertaForSequenceClassification,
    )

    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1)
    distilbert = {"vocab_size": 60, "dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "bert": BertForSequenceClassification(BertConfig(**SIZE)),
            "distilbert": DistilBertForSequenceClassification(DistilBertConfig(**distilbert)),
            "electra": ElectraForSequenceClassification(ElectraConfig(**SIZE, embedding_size=16)),
            "modernbert": ModernBertForSequenceClassification(ModernBertConfig(**SIZE, **ids, local_attention=4)),
            "roberta": RobertaForSequenceClassification(RobertaConfig(**SIZE)),
        }


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "modernbert", "roberta"])
def test_what_is_left_is_what_transformers_loads(name: str, tmp_path: Path) -> None:
    """The model in memory, in which nothing but layers changed, and the one that is read from disk say the same."""
    model = models()[name].eval()
    layers = {"distilbert": "transformer.layer", "modernbert": "layers"}.get(name, "encoder.layer")
    whole = [*model.base_model.get_submodule(layers)]
    keep_layers(model, (0, 3))
    assert [*model.base_model.get_submodule(layers)] == [whole[0], whole[3]]
    checkpoint.save_weights(SequenceClassifier(model), tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.classifier.config.num_hidden_layers == 2
    inputs = {
        "input_ids": torch.randint(2, 60, (3, 11), generator=torch.Generator().manual_seed(1)),
        "attention_mask": torch.ones(3, 11, dtype=torch.int64),
        "token_type_ids": torch.zeros(3, 11, dtype=torch.int64),
    }
    with torch.no_grad():
        expected = SequenceClassifier(model)(inputs)
        assert torch.equal(loaded(inputs), expected)
        # A layer more, and it would be another model.
        assert not torch.allclose(models()[name].eval()(input_ids=inputs["input_ids"]).logits, expected)


def test_layers_that_are_no_list_are_refused() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    model = AlbertForSequenceClassification(AlbertConfig(**SIZE, embedding_size=8))
    with pytest.raises(UsageError, match="layers of a albert encoder cannot be dropped"):
        keep_layers(model, (0, 1))


def logits(folder: Path, texts: list[str]) -> Any:
    encoder = TextEncoder.from_file(folder / "tokenizer.json", TextLimits(64))
    return logits_of(Padded(checkpoint.load(folder), torch.device("cpu"), 0), encoder.encode(texts), 4096)


def test_a_classifier_keeps_its_head_and_another_base_gets_one_of_the_seed(
    tiny_run: Path, tiny_base: Path, tmp_path: Path
) -> None:
    labels, texts = ("delivery", "praise"), ["where is my parcel", "love it"]
    trained = resolve(str(tiny_run / "checkpoint"))
    same, trimmed = shrink(trained, labels, "single-label", (0, 1), tmp_path / "same", seed=0, texts=texts)
    assert trimmed is not None
    assert trimmed.kept < trimmed.before
    assert np.array_equal(logits(same.folder, texts), logits(trained.folder, texts))
    assert (same.name, same.source) == (trained.name, trained.source)

    base = resolve(str(tiny_base))
    hashes = [
        shrink(base, labels, "single-label", (0,), tmp_path / f"student-{place}", seed=seed)[0].weights_sha256
        for place, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert json.loads((tmp_path / "student-0" / "config.json").read_text())["num_hidden_layers"] == 1


def test_a_student_runs_unpadded(tiny_run: Path, tmp_path: Path) -> None:
    base = resolve(str(tiny_run / "checkpoint"))
    small, _ = shrink(base, ("delivery", "praise"), "single-label", (0,), tmp_path / "small", seed=0)
    model = checkpoint.load(small.folder)
    tokens = TextEncoder.from_file(small.folder / "tokenizer.json", TextLimits(64)).encode(["one two", "three"] * 3)
    unpadded = forward_of(model, Machine(torch.device("cpu"), torch.float32), 0)
    assert not isinstance(unpadded, Padded)
    padded = Padded(model, torch.device("cpu"), 0)
    assert np.allclose(logits_of(unpadded, tokens, 4096), logits_of(padded, tokens, 4096), atol=1e-5)
