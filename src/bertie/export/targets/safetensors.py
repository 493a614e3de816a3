"""A folder that transformers loads: configuration with label names, weights without pickle, tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from bertie.export.targets.target import Run, Trained
from bertie.train.checkpoint import load as load_checkpoint
from bertie.train.model import quiet


class Safetensors:
    """The model as `AutoModelForSequenceClassification` and `AutoTokenizer` read it."""

    imports = "import torch\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n"
    usage = """\
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".").eval()
inputs = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits.numpy()
"""

    def write(self, trained: Trained, stage: Path) -> None:
        """See Target."""
        with quiet():
            trained.model.classifier.save_pretrained(stage)
        for file in trained.checkpoint.iterdir():
            if not (stage / file.name).exists():  # the tokenizer's files
                shutil.copyfile(file, stage / file.name)

    def load(self, trained: Trained, stage: Path) -> Run:
        """See Target."""
        model = load_checkpoint(stage)
        return lambda inputs: model({name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
