"""The accuracy contract: a faster model is accepted only if it still predicts what the trained one does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.evaluate.headline import intervals
from bertie.evaluate.metrics import calibration_error
from bertie.scores import Array, Decision, chosen

METRIC = "macro_f1"


@dataclass(frozen=True)
class Budget:
    """What a candidate may lose."""

    max_drop: float
    """Of macro-F1, as a share: 0.005 is half a point."""
    min_agreement: float
    """Share of the texts that must keep their labels."""


@dataclass(frozen=True)
class Verdict:
    """How a candidate compares with the trained model on the same held-out texts."""

    metric: dict[str, float]
    """Macro-F1: `value`, and `low` and `high` of its 95 % interval."""
    drop: float
    """How much lower it is than the trained model's."""
    agreement: float
    flips: int
    """Texts whose labels differ."""
    max_shift: float
    """Greatest difference of a probability."""
    ece: float
    accepted: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def judge(trained: Array, scores: Array, targets: NDArray[np.int64], decision: Decision, budget: Budget) -> Verdict:
    """Compare probabilities of two models, both [rows, labels], and the truth."""
    single = decision.kind == "single-label"
    before, after = chosen(trained, decision), chosen(scores, decision)
    reference = intervals(targets, before, single=single)[METRIC]
    metric = intervals(targets, after, single=single)[METRIC]
    flips = int((before != after).any(axis=1).sum())
    drop, agreement = reference["value"] - metric["value"], 1 - flips / max(1, len(before))
    broken = []
    # Differences of shares: their last digit is rounding, not quality.
    if drop > budget.max_drop + 1e-9:
        broken.append(f"macro-F1 is {100 * drop:.2f} points lower; at most {100 * budget.max_drop:g} are allowed")
    if agreement < budget.min_agreement - 1e-9:
        broken.append(
            f"{flips} of {len(before)} texts get another label, so that {100 * agreement:.2f} % agree; "
            f"at least {100 * budget.min_agreement:g} % must"
        )
    return Verdict(
        metric=metric,
        drop=drop,
        agreement=agreement,
        flips=flips,
        max_shift=float(np.abs(trained - scores).max(initial=0.0)),
        ece=calibration_error(targets, scores, after, single=single),
        accepted=not broken,
        why="; ".join(broken) or "holds the contract",
    )
