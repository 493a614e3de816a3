"""The trained model on disk, as transformers reads it: weights without pickle, label names, the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from bertie import disk
from bertie.errors import BundleNotFound, OutputError
from bertie.train.base_models import Base
from bertie.train.model import SequenceClassifier, quiet

FOLDER = "checkpoint"
"""The finished model of a run."""


def save(model: SequenceClassifier, base: Base, max_tokens: int, path: Path) -> None:
    """Write the model whole or not at all, in the place of an older one.

    `transformers.pipeline("text-classification", model=path)` loads it, cuts texts at `max_tokens` as training did,
    and answers with the user's label names. Raises OutputError.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    save_with(model, tokenizer, max_tokens, path)


def save_with(model: SequenceClassifier, tokenizer: Any, max_tokens: int, path: Path) -> None:
    """Write the model as `save` does, with a tokenizer of transformers. Raises OutputError."""
    tokenizer.model_max_length = max_tokens
    # Some bases carry truncation and padding in tokenizer.json; left there, they would cut texts behind our back.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    with disk.folder(path, replace=True) as stage:
        save_weights(model, stage)
        tokenizer.save_pretrained(stage)


def save_weights(model: SequenceClassifier, folder: Path) -> None:
    """Write `config.json` and the weights into a folder. Raises OutputError."""
    with quiet():
        try:
            model.classifier.save_pretrained(folder)
        except SafetensorError as error:  # which also stands for a full disk
            raise OutputError(f"cannot write {folder}: {error}.", hint="free some disk space") from error


def load(path: Path) -> SequenceClassifier:
    """Load a finished checkpoint, to be evaluated. Raises BundleNotFound where there is none."""
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415 - seconds to import

    if not (path / "config.json").is_file():
        # A training that was stopped keeps its best weights in a folder beside this one until it has ended.
        stopped = (path.parent / "checkpoints").is_dir()
        hint = f"bertie train --resume {path.parent}" if stopped else "bertie train DATA --out RUN makes one"
        raise BundleNotFound(f"there is no checkpoint in {path}.", hint=hint)
    with quiet():
        loaded = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
    return SequenceClassifier(loaded).eval()
