"""A scikit-learn estimator: `fit`, `predict`, `predict_proba`, `score`, `save`; works in `cross_val_score`."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bertie import disk
from bertie.config import SplitSettings, TrainSettings
from bertie.data.check import check
from bertie.data.examples import Examples, from_lists, label_name
from bertie.data.split import split
from bertie.errors import UsageError, need
from bertie.runtime.classifier import Classifier, load
from bertie.scores import chosen
from bertie.talk import Talk
from bertie.tokens import Text
from bertie.train.base_models import resolve
from bertie.train.limits import text_encoder, text_limits

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError as error:
    raise need("train", error) from error


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Fine-tune on texts and labels, predict through the exported bundle.

    `X` holds strings, or pairs of strings. `y` holds labels; or, for several labels a text, lists of labels.
    `settings` are those of `bertie train`, by name: `TextClassifier(max_passes=3, settings={"batch_size": 16})`.
    """

    def __init__(
        self,
        base: str = "minilm",
        *,
        max_passes: int = 0,
        seed: int = 0,
        valid_share: float = 0.1,
        settings: dict[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.base = base
        self.max_passes = max_passes
        self.seed = seed
        self.valid_share = valid_share
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Sequence[Any], y: Sequence[Any]) -> Self:  # noqa: N803 - scikit-learn's name
        """Train on the texts, of which `valid_share` choose the checkpoint, and load the bundle."""
        from bertie.train.job import Job  # noqa: PLC0415
        from bertie.train.train import train  # noqa: PLC0415 - imports PyTorch

        talk = Talk(quiet=not self.verbose)
        wanted = {"base": self.base, "max_passes": self.max_passes} | (self.settings or {})
        settings = TrainSettings.load(wanted, environment={}, file=None)
        shares = SplitSettings(valid_share=self.valid_share, seed=self.seed)
        examples = _examples(X, y)
        check([examples]).raise_errors()
        parts = split(examples, (shares.valid_share,), self.seed)
        base = resolve(settings.base)
        limits = text_limits(base, settings)
        # The labels in the caller's own type: numbers stay numbers.
        single = examples.kind == "single-label"
        self._types = {label_name(label): label for label in np.asarray(y).tolist()} if single else {}
        with tempfile.TemporaryDirectory(prefix="bertie-") as name:
            run = Path(name)
            encoder = text_encoder(base, limits)
            job = Job(run, base, encoder, parts[0], parts[1], examples.label_names(), settings, self.seed)
            train(job, talk)
            self._keep(run, job)
        return self

    def _keep(self, run: Path, job: Any) -> None:
        """Export into a folder that lives as long as this object."""
        from bertie.export.export import Plan, export  # noqa: PLC0415 - imports PyTorch
        from bertie.version import __version__  # noqa: PLC0415

        plan = Plan(
            labels=job.labels,
            kind=job.train.kind,
            pairs=job.train.pairs,
            limits=job.encoder.limits,
            pad_id=job.encoder.pad_id,
            tolerance=job.settings.tolerance,
            provenance={"bertie": __version__, "base": job.base.as_dict(), "rows": {"train": len(job.train)}},
        )
        folder = Path(tempfile.mkdtemp(prefix="bertie-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._bundle = folder / "bundle"
        export(run / "checkpoint", self._bundle, plan, job.valid, lambda _: {})
        self.classifier_: Classifier = load(self._bundle)
        self.classes_ = np.asarray([self._types.get(label, label) for label in self.classifier_.labels])

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:  # noqa: N803
        """Return one label for each text; for several labels a text, an array of 0 and 1 [texts, labels]."""
        scores = self.predict_proba(X)
        picked = chosen(scores, self._fitted().decision)
        if self._fitted().decision.kind == "multi-label":
            return picked.astype(np.int64)
        answer: NDArray[Any] = self.classes_[picked.argmax(axis=1)]
        return answer

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:  # noqa: N803
        """Return probabilities [texts, labels], in the order of `classes_`."""
        return self._fitted().predict_proba(_texts(X))

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the bundle, ready for `bertie.load` and `bertie serve`."""
        self._fitted()
        with disk.folder(Path(path), replace=overwrite) as stage:
            shutil.copytree(self._bundle, stage, dirs_exist_ok=True)
        return Path(path)

    def _fitted(self) -> Classifier:
        if not hasattr(self, "classifier_"):
            raise UsageError("this TextClassifier has not been fitted yet.", hint="call fit(texts, labels) first")
        return self.classifier_


def _texts(values: Sequence[Any]) -> list[Text]:
    return [str(value) if isinstance(value, str) else (str(value[0]), str(value[1])) for value in values]


def _examples(X: Sequence[Any], y: Sequence[Any]) -> Examples:  # noqa: N803
    if len(X) != len(y):
        raise UsageError(f"there are {len(X)} texts and {len(y)} labels.", expected="one label for each text")
    return from_lists(_texts(X), list(y))
