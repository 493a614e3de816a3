"""What a student learns beside, or instead of, labels: its teacher's answers. Knows no PyTorch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Soft:
    """A teacher's calibrated logits for the training texts, of which the first `labelled` have labels too."""

    logits: NDArray[np.float32]  # [texts, labels]
    labelled: int
    temperature: float
    share: float
    """Share of the teacher's answers in the loss of a text that has labels; the rest is that of the labels."""

    @property
    def identity(self) -> str:
        """A hash of all this."""
        facts = f"{self.logits.shape} {self.labelled} {self.temperature} {self.share}".encode()
        return hashlib.sha256(facts + np.ascontiguousarray(self.logits).tobytes()).hexdigest()
