"""A classifier with transformers and torch, as an expert would call it: what the peers' servers batch for."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Scorer:
    """Texts to labels and scores: one call for a batch, padded to its longest text, weights in bf16."""

    def __init__(self, folder: str) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        inputs = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            scores, best = self._model(**inputs).logits.float().softmax(-1).max(-1)
        names = self._model.config.id2label
        pairs = zip(best.tolist(), scores.tolist(), strict=True)
        return [{"label": names[row], "score": score} for row, score in pairs]
