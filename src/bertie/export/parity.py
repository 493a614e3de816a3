"""Does the exported model predict what the trained one does? Asked of the user's own texts, before anything is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.errors import ParityError
from bertie.scores import Decision, chosen, probabilities


@dataclass(frozen=True)
class Parity:
    """How far two models are apart on the same texts."""

    texts: int
    max_difference: float
    """Greatest difference of a probability."""
    flips: int
    """Texts whose chosen labels differ."""

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the manifest."""
        return asdict(self)


def compare(trained: NDArray[Any], exported: NDArray[Any], decision: Decision) -> Parity:
    """Compare two models' logits, both [texts, labels]."""
    left, right = probabilities(trained, decision), probabilities(exported, decision)
    flips = (chosen(left, decision) != chosen(right, decision)).any(axis=1)
    return Parity(len(left), float(np.abs(left - right).max(initial=0.0)), int(flips.sum()))


def require(parity: Parity, tolerance: float) -> None:
    """Raise ParityError where a probability is further off than the tolerance.

    A flip within the tolerance is a tie between two labels and no error; it is counted in the manifest.
    """
    if not parity.max_difference <= tolerance:
        raise ParityError(
            f"the exported model is off by {parity.max_difference:.2g} in probability on {parity.texts} validation "
            f"texts, and changes the label of {parity.flips}.",
            expected=f"at most {tolerance:g}",
            hint="nothing was written; --tolerance allows more, if you can accept that",
        )
