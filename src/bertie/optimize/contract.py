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
    """Share of the texts that keep their labels; the lower one of many at once and one at a time."""
    flips: int
    """Texts whose labels differ, many at once."""
    agreement_alone: float
    """The same for texts scored one at a time."""
    max_shift: float
    """Greatest difference of a probability."""
    ece: float
    accepted: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def judge(
    trained: Array,
    scores: Array,
    targets: NDArray[np.int64],
    decision: Decision,
    budget: Budget,
    alone: tuple[NDArray[np.int64], Array] | None = None,
) -> Verdict:
    """Compare probabilities of two models, both [rows, labels], and the truth.

    `alone` are some rows and what the faster model says of them one at a time. A score that is no number agrees with
    nothing.
    """
    single = decision.kind == "single-label"
    sound = np.all(np.isfinite(scores), axis=1)
    scores = np.where(sound[:, None], scores, 0.0)
    before, after = chosen(trained, decision), chosen(scores, decision)
    reference = intervals(targets, before, single=single)[METRIC]
    metric = intervals(targets, after, single=single)[METRIC]
    flips = int(((before != after).any(axis=1) | ~sound).sum())
    drop, many = reference["value"] - metric["value"], 1 - flips / max(1, len(before))
    singly = many if alone is None else _agreement(before[alone[0]], alone[1], decision)
    agreement = min(many, singly)
    broken = []
    if not sound.all():
        broken.append(f"the scores of {int((~sound).sum())} texts are no numbers")
    # Differences of shares: their last digit is rounding, not quality.
    if drop > budget.max_drop + 1e-9:
        broken.append(f"macro-F1 is {100 * drop:.2f} points lower; at most {100 * budget.max_drop:g} are allowed")
    if alone is not None and singly < budget.min_agreement - 1e-9:
        broken.append(
            f"{100 * singly:.2f} % of {len(alone[0])} texts scored one at a time agree; "
            f"at least {100 * budget.min_agreement:g} % must"
        )
    if many < budget.min_agreement - 1e-9:
        broken.append(
            f"{flips} of {len(before)} texts get another label, so that {100 * many:.2f} % agree; "
            f"at least {100 * budget.min_agreement:g} % must"
        )
    return Verdict(
        metric=metric,
        drop=drop,
        agreement=agreement,
        flips=flips,
        agreement_alone=singly,
        max_shift=float(np.abs(trained - scores).max(initial=0.0)),
        ece=calibration_error(targets, scores, after, single=single),
        accepted=not broken,
        why="; ".join(broken) or "holds the contract",
    )


def _agreement(before: NDArray[np.bool_], scores: Array, decision: Decision) -> float:
    sound = np.all(np.isfinite(scores), axis=1)
    kept = (chosen(np.where(sound[:, None], scores, 0.0), decision) == before).all(axis=1) & sound
    return float(kept.mean()) if len(kept) else 1.0
