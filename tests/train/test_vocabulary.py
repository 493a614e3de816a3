"""Trimmed vocabularies of the three kinds: given texts are read as before, and what could be read still can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertie.errors import BundleDamaged, BundleNotFound, ExportError, OutputError, UsageError
from bertie.tokens import TextEncoder, TextLimits
from bertie.train import checkpoint, vocabulary
from bertie.train.forward import Padded, logits_of
from bertie.train.model import quiet
from bertie.train.vocabulary import cut_tokenizer, trim

CORPUS = [
    "where is my parcel, the courier was late again and again",
    "I was charged twice for the same invoice: refund the money",
    "lovely service, thank you so much! naïve café, über, 42 parcels",
    "parcels parcel parcelling courier couriers late later latest lateness",
    "the quick brown fox jumps over the lazy dog; THE END",
] * 3


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])  # beside the model's own vocabulary
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {"WordPiece": word_piece, "BPE": byte_level_bpe, "Unigram": unigram}
UNKNOWN = {"[UNK]", "<unk>"}


@cache
def document(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(KINDS[kind]().to_str())
    return made


def pieces(of: dict[str, Any], text: str) -> list[str]:
    return Tokenizer.from_str(json.dumps(of)).encode(text).tokens


letters = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzTHEIéïü .,:!42☃你"), max_size=40)
sentences = st.lists(st.one_of(letters, st.sampled_from(CORPUS)), max_size=4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(texts=sentences, unseen=letters, frequent=st.sampled_from([0, 60, 10_000]))
def test_texts_are_read_as_before_and_no_other_is_lost(kind: str, texts: list[str], unseen: str, frequent: int) -> None:
    whole = document(kind)
    cut, rows = cut_tokenizer(whole, texts, frequent=frequent)
    assert len(rows) <= Tokenizer.from_str(json.dumps(whole)).get_vocab_size()
    for text in texts:
        assert pieces(cut, text) == pieces(whole, text)
    lost = UNKNOWN & {*pieces(cut, unseen)} - {*pieces(whole, unseen)}
    assert not lost
    if frequent == 10_000:
        assert pieces(cut, unseen) == pieces(whole, unseen)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_that_nothing_needs_go(kind: str) -> None:
    whole = document(kind)
    cut, rows = cut_tokenizer(whole, CORPUS[:1])
    old, new = (Tokenizer.from_str(json.dumps(part)).get_vocab() for part in (whole, cut))
    assert len(new) == len(rows) < len(old)
    assert {piece: rows[place] for piece, place in new.items()} == {piece: old[piece] for piece in new}
    assert "lateness" not in pieces(cut, "lateness")
    # The numbers that stand around a text, and beside it.
    assert [rows[id_] for id_ in Tokenizer.from_str(json.dumps(cut)).encode("", "").ids] == (
        Tokenizer.from_str(json.dumps(whole)).encode("", "").ids
    )


def test_a_tokenizer_that_would_read_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a way of cutting that forgets what a piece is merged from."""
    monkeypatch.setattr(vocabulary._BPE, "closed", lambda self, wanted: wanted)
    with pytest.raises(ExportError, match="otherwise"):
        cut_tokenizer(document("BPE"), CORPUS[:1])


def test_vocabularies_that_cannot_be_cut_are_refused() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "parcel": 1}, unk_token="[UNK]"))
    with pytest.raises(UsageError, match="'WordLevel' cannot be trimmed"):
        cut_tokenizer(json.loads(words.to_str()), ["parcel"])
    # "q" has no piece of its own. Without "aa", the word "aaaq" would begin with "a", "##aa", and its end be unknown.
    gaps = {"[UNK]": 0, "a": 1, "##a": 2, "aa": 3, "##aa": 4, "##aq": 5}
    assert Tokenizer(models.WordPiece(gaps, unk_token="[UNK]")).encode("aaaq").tokens == ["aa", "##aq"]
    for texts in (["aaa"], ["aaaq"]):
        with pytest.raises(UsageError, match="1 of its pieces, as '##aq'"):
            cut_tokenizer(json.loads(Tokenizer(models.WordPiece(gaps, unk_token="[UNK]")).to_str()), texts)
    likely = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("aq", -2.0)], unk_id=0))
    likely.add_special_tokens(["<unk>"])
    with pytest.raises(UsageError, match="as 'aq'"):
        cut_tokenizer(json.loads(likely.to_str()), ["a"])


def model_of(kind: str, folder: Path, positions: int = 130) -> Path:
    """A checkpoint of random weights, with the tokenizer of that kind, as a run has one."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        ModernBertConfig,
        ModernBertForSequenceClassification,
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
    )

    tokenizer = Tokenizer.from_str(json.dumps(document(kind)))
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size |= {
        "vocab_size": tokenizer.get_vocab_size() + 3,
        "max_position_embeddings": positions,
    }  # rows that no piece has
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "WordPiece":
            model: Any = BertForSequenceClassification(BertConfig(**size))
            names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
        elif kind == "BPE":
            ids = {"pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}
            model = ModernBertForSequenceClassification(ModernBertConfig(**size, **ids))
        else:
            model = XLMRobertaForSequenceClassification(XLMRobertaConfig(**size, pad_token_id=1))
    with quiet():
        model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder


def logits(folder: Path, texts: list[str]) -> Any:
    pad_id = json.loads((folder / "config.json").read_text())["pad_token_id"]
    encoder = TextEncoder.from_file(folder / "tokenizer.json", TextLimits(64), pad_id)
    return logits_of(Padded(checkpoint.load(folder), torch.device("cpu"), pad_id), encoder.encode(texts), 4096)


@pytest.mark.parametrize("kind", KINDS)
def test_the_trimmed_checkpoint_loads_in_transformers_and_answers_the_same(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    whole, out = model_of(kind, tmp_path / "whole"), tmp_path / "cut"
    texts = CORPUS[:2]
    found = trim(whole, texts, out)
    assert found.kept < found.before
    assert found.bytes == (out / "model.safetensors").stat().st_size < found.bytes_before
    assert np.array_equal(logits(whole, texts), logits(out, texts))

    tokenizer, old = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(whole)
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(out)
    config = model.config
    assert model.get_input_embeddings().num_embeddings == config.vocab_size == found.kept == len(tokenizer)
    assert tokenizer.pad_token_id == config.pad_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer(texts[0])["input_ids"]) == (
        old.convert_ids_to_tokens(old(texts[0])["input_ids"])
    )
    if kind == "Unigram":  # its positions begin after the number of the padding
        assert config.pad_token_id == 1


def test_all_that_was_trained_stays(tiny_run: Path, tmp_path: Path) -> None:
    texts = ["where is my parcel", "love it so much"]
    found = trim(tiny_run / "checkpoint", texts, tmp_path / "cut")
    assert np.array_equal(logits(tiny_run / "checkpoint", texts), logits(tmp_path / "cut", texts))
    kept = Tokenizer.from_file(str(tmp_path / "cut" / "tokenizer.json")).get_vocab()
    assert {"parcel", "love", "z", "##z", "[MASK]"} <= kept.keys()
    assert not {"courier", "invoice"} & kept.keys()
    most = trim(tiny_run / "checkpoint", texts, tmp_path / "most", frequent=found.before)
    assert (most.kept, most.before) == (found.before, found.before)


def test_numbers_that_no_piece_has_leave_the_config(tmp_path: Path) -> None:
    whole = model_of("WordPiece", tmp_path / "whole")
    path = whole / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 9999}))
    trim(whole, CORPUS, tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["eos_token_id"] is None


def test_nothing_is_left_half_written(tiny_run: Path, tmp_path: Path, small_disk: Path) -> None:
    with pytest.raises(BundleNotFound, match="no checkpoint"):
        trim(tmp_path / "nowhere", ["a"], tmp_path / "out")
    whole = model_of("WordPiece", tmp_path / "large", positions=8000)  # more than the disk holds
    with pytest.raises(OutputError):
        trim(whole, CORPUS, small_disk / "cut")
    assert not list(small_disk.iterdir())


def test_a_checkpoint_without_a_tokenizer_is_told(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "checkpoint", tmp_path / "whole")
    (tmp_path / "whole" / "tokenizer.json").unlink()
    with pytest.raises(BundleDamaged, match=r"tokenizer\.json is not a tokenizer"):
        trim(tmp_path / "whole", ["a"], tmp_path / "out")
