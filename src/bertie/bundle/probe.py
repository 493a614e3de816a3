"""A golden test that travels with the model: fixed texts and the probabilities they had when the bundle was written.

The texts are ours, not the user's: a bundle goes to places where training data may not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertie.disk import write_text
from bertie.errors import BundleDamaged, ProbeFailed
from bertie.scores import Array
from bertie.tokens import Text

TOLERANCE = 0.02
"""Greatest difference in probability on another machine: other instructions round otherwise, above all in int8."""

TEXTS = (
    "ok",
    "Where is the invoice for March?",
    "Somebody just left - guess who.",
    "I would like to thank the whole team: the new kettle boils in two minutes and looks lovely in our kitchen!",
    "naïve café, Łódź, 東京, Ελλάδα, привет 🙂 — £9.99 / 12,50 €",
    "WIN NOW!!! click -> example.com/win?id=42&x=%20",
    "The form says that the password which the customer that the clerk called yesterday had chosen was too short.",
    "rain " * 60,
)


@dataclass(frozen=True)
class Probe:
    """The texts, and their probabilities [texts, labels]."""

    texts: list[Text]
    scores: list[list[float]]

    @classmethod
    def record(cls, predict_proba: Callable[[Sequence[Text]], Array], *, pairs: bool) -> Probe:
        """Score the texts with a model that is known to be good."""
        texts = probe_texts(pairs=pairs)
        return cls(texts, np.round(predict_proba(texts), 6).tolist())

    @classmethod
    def from_file(cls, path: Path) -> Probe:
        """Read a probe. Raises BundleDamaged."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            texts = [tuple(text) if isinstance(text, list) else text for text in values["texts"]]
            return cls(texts, values["scores"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleDamaged(f"{path} is not a probe: {error!r}.", hint="copy the bundle again") from error

    def write(self, path: Path) -> None:
        """Write the probe to a file. Raises OutputError."""
        values = {"texts": self.texts, "scores": self.scores}
        write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    def check(self, predict_proba: Callable[[Sequence[Text]], Array]) -> float:
        """Return the greatest difference in probability. Raises ProbeFailed where it is over the tolerance."""
        scores = predict_proba(self.texts)
        expected = np.asarray(self.scores)
        if scores.shape != expected.shape:
            raise ProbeFailed(f"the model gives scores of shape {scores.shape}; its probe has {expected.shape}.")
        difference = float(np.abs(scores - expected).max())
        if not difference <= TOLERANCE:
            raise ProbeFailed(
                f"the model does not score its probe texts as it did when it was written: off by {difference:.4f}.",
                expected=f"at most {TOLERANCE}",
                hint="export the bundle again on this machine",
            )
        return difference


def probe_texts(*, pairs: bool) -> list[Text]:
    """Return the texts that are scored, as pairs where the model reads such."""
    return list(zip(TEXTS, TEXTS[::-1], strict=True)) if pairs else list(TEXTS)
