"""What is to be trained: everything read and checked. Knows no PyTorch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from bertie.config import FREE, TrainSettings
from bertie.data.examples import Examples
from bertie.scores import Decision
from bertie.tokens import TextEncoder
from bertie.train.base_models import Base
from bertie.train.soft import Soft

MANY_ROWS = 5000
"""From this many training rows on, an update takes 64 texts; below, 16 (measured, see docs/benchmarks.md)."""


@dataclass(frozen=True)
class Job:
    """Everything that training needs."""

    run: Path
    base: Base
    encoder: TextEncoder
    train: Examples
    valid: Examples
    labels: tuple[str, ...]
    settings: TrainSettings
    seed: int
    fingerprint: str = ""
    """A hash of the texts and labels."""
    soft: Soft | None = None
    """What a teacher says of the training rows; those after its `labelled` ones have no labels."""

    @property
    def decision(self) -> Decision:
        """How logits are read while training goes on: no temperature yet, and one half as threshold."""
        return Decision(self.labels, self.train.kind)

    @property
    def batch_size(self) -> int:
        """Texts in one update. Large sets have updates enough to make each of them larger, which is faster."""
        return self.settings.batch_size or (64 if len(self.train) >= MANY_ROWS else 16)

    @property
    def identity(self) -> str:
        """A hash of all that decides what is learned: a checkpoint of one job is of no use to another."""
        settings = self.settings.model_dump(exclude=set(FREE))
        facts = [self.fingerprint, self.labels, self.base.weights_sha256, settings, self.seed]
        if self.soft is not None:
            facts.append(self.soft.identity)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
