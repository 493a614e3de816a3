"""A model of transformers out of bare weights and a configuration, and its tokenizer beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertie.errors import BundleUnusable
from bertie.talk import Talk
from bertie.train.checkpoint import save_with
from bertie.train.model import SequenceClassifier, quiet

ROUNDED = 128
"""Rows of the embeddings are rounded up to a multiple of at most this, for speed, and have no words then."""


def build(config: dict[str, Any], labels: tuple[str, ...], tensors: dict[str, Tensor]) -> SequenceClassifier:
    """Return the classifier. Raises BundleUnusable where weights and configuration do not fit each other."""
    from transformers import AutoConfig, AutoModelForSequenceClassification  # noqa: PLC0415 - seconds to import

    unwanted = {"num_labels", "_num_labels", "label2id", "torchscript", "auto_map", "model_type", "architectures"}
    kept = {key: value for key, value in config.items() if key not in unwanted}
    kept |= {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    try:
        with quiet():
            known = AutoConfig.for_model(config.get("model_type") or "bert", **kept)
            model = AutoModelForSequenceClassification.from_config(known, dtype=torch.float32, trust_remote_code=False)
    except (ValueError, TypeError) as error:
        raise BundleUnusable(f"config.json describes no classifier that is known here: {error}.") from error
    # Old files hold the numbers of positions, which are no weights; the oldest call a norm's weights gamma and beta.
    renamed = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): value
        for name, value in tensors.items()
        if not name.endswith(("position_ids", "token_type_ids"))
    }
    wanted = model.state_dict()
    for name, value in renamed.items():
        if name in wanted and wanted[name].shape != value.shape:
            raise BundleUnusable(
                f"the weights {name} are of shape {tuple(value.shape)}.", expected=f"{tuple(wanted[name].shape)}"
            )
    missing = [name for name in wanted if name not in renamed and not name.endswith(("position_ids", "token_type_ids"))]
    unknown = [name for name in renamed if name not in wanted]
    if missing or unknown:
        raise BundleUnusable(
            f"the weights are not those of a {known.model_type} classifier: {len(missing)} are missing, "
            f"{len(unknown)} have no place, {(missing + unknown)[0]} among them."
        )
    model.load_state_dict(renamed, strict=False)
    return SequenceClassifier(model.eval())


def save(model: SequenceClassifier, words: Path, max_tokens: int, path: Path, talk: Talk) -> None:
    """Write a checkpoint with the tokenizer of the folder `words`.

    Raises BundleUnusable where it has more words than the model; warns where it has fewer.
    """
    from transformers import AutoTokenizer, BertTokenizerFast  # noqa: PLC0415 - seconds to import

    if (words / "tokenizer.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(words, trust_remote_code=False, local_files_only=True)
    else:
        tokenizer = BertTokenizerFast.from_pretrained(words, local_files_only=True)
    known, room = len(tokenizer), model.classifier.config.vocab_size
    if known > room:
        raise BundleUnusable(
            f"the tokenizer has {known} words, and the model {room}.",
            hint="give the model's own with --tokenizer FOLDER",
        )
    if known + ROUNDED <= room:
        talk.warn(
            f"the tokenizer has {known} words, and the model {room}: if it is not the model's own, all answers are "
            "wrong; see --tokenizer"
        )
    save_with(model, tokenizer, max_tokens, path)
