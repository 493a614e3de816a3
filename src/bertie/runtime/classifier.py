"""Texts in, predictions out: tokens, batches by length, engine, windows, probabilities."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.bundle.manifest import FILE, Manifest, Variant
from bertie.bundle.probe import Probe
from bertie.bundle.read import opened, verify
from bertie.errors import RequestInvalid
from bertie.runtime.engine import Engine, pick, start
from bertie.scores import Array, Decision, Prediction, predictions, probabilities
from bertie.tokens import Text, TextEncoder, Tokens, by_length, pooled

MAX_ROWS = 256
MAX_CELLS = 4096
"""Windows, and padded tokens, of one model call: more does not run faster on a CPU, and takes memory."""
ENOUGH = 256
"""Tokens of a batch that runs as fast as a larger one, so that it need not take windows of other lengths in."""


class Classifier:
    """A loaded model. Safe to call from several threads."""

    def __init__(
        self,
        encoder: TextEncoder,
        engine: Engine,
        decision: Decision,
        *,
        pairs: bool,
        manifest: Manifest | None = None,
        variant: Variant | None = None,
    ) -> None:
        self.decision, self.pairs, self.manifest, self.variant = decision, pairs, manifest, variant
        self._encoder, self._engine = encoder, engine

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the columns of `predict_proba`."""
        return self.decision.labels

    def logits(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Return the model's raw scores, [texts, labels]."""
        if not texts:
            self._refuse(texts)
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        tokens = self.encode(texts)
        logits = np.empty((len(tokens.rows), len(self.labels)), dtype=np.float32)
        for windows in by_length(tokens.lengths, MAX_ROWS, MAX_CELLS, ENOUGH):
            logits[windows] = self.run(tokens.pad(windows, self.pad_id))
        return pooled(logits, tokens.rows, len(texts))

    def encode(self, texts: Sequence[Text]) -> Tokens:
        """Return the tokens of texts. Raises RequestInvalid for what is no text, or no pair of texts."""
        self._refuse(texts)
        return self._encoder.encode(texts)

    @property
    def pad_id(self) -> int:
        """The token that shorter windows of a batch are filled up with."""
        return self._encoder.pad_id

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [windows, labels] of one batch of padded windows, as `Tokens.pad` makes them."""
        return self._engine.run(inputs)

    def predict_proba(self, texts: Sequence[Text]) -> Array:
        """Return probabilities [texts, labels]; rows add up to 1 where a text has one label."""
        return probabilities(self.logits(texts), self.decision)

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return one Prediction for each text. Raises RequestInvalid for what is no text, or no pair of texts."""
        return predictions(self.predict_proba(texts), self.decision)

    def truncated(self, texts: Sequence[Text]) -> int:
        """Return how many of the texts are longer than the model reads."""
        return int(self.encode(texts).truncated.sum())

    def warm(self) -> None:
        """Do now what would slow the first answers down: a server's first users should not pay for it."""
        self._engine.warm()

    def _refuse(self, texts: Sequence[Any]) -> None:
        if isinstance(texts, str):
            raise RequestInvalid("predict takes a list of texts, not one text.", hint="predict([text])")
        expected = "a pair of strings (text, text_pair)" if self.pairs else "a string"
        for place, text in enumerate(texts):
            fits = (
                isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)
                if self.pairs
                else isinstance(text, str)
            )
            if not fits:
                raise RequestInvalid(
                    f"text {place} is {type(text).__name__}, which this model cannot read.", expected=expected
                )


def load(model: str | Path, *, variant: str | None = None, threads: int = 0) -> Classifier:
    """Load a run, a bundle or a `.tar.gz` of one, ready to predict.

    Every file that is read is compared with its hash, and the probe must be scored as when the bundle was written.
    `threads` is that of one model call, 0 for all physical cores. Raises BundleError.
    """
    with opened(Path(model)) as folder:
        manifest = Manifest.from_file(folder / FILE)
        answering, why = pick(manifest, variant)
        if why:
            logging.getLogger("bertie").warning("%s", why)
        verify(folder, manifest.read_for(answering))
        classifier = from_folder(folder, manifest, answering, threads=threads, digest=manifest.digest(answering))
        Probe.from_file(folder / (answering.probe or manifest.probe)).check(classifier.predict_proba)
    return classifier


def from_folder(
    folder: Path, manifest: Manifest, variant: Variant, *, threads: int = 0, digest: str = ""
) -> Classifier:
    """Put a classifier together from the files of a bundle, without checking them. `digest` is that of engine.start."""
    encoder = TextEncoder.from_file(folder / manifest.input.tokenizer, manifest.limits, manifest.input.pad_id)
    engine = start(folder, variant, threads, digest)
    return Classifier(
        encoder, engine, manifest.decision, pairs=manifest.input.pairs, manifest=manifest, variant=variant
    )
