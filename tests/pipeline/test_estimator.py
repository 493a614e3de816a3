from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import bertie
from bertie.errors import DataError, OutputError, UsageError
from tests.conftest import make_rows

SETTINGS = {"learning_rate": 2e-3, "batch_size": 8, "precision": "fp32"}


def estimator(base: Path) -> bertie.TextClassifier:
    return bertie.TextClassifier(base=str(base), max_passes=8, valid_share=0.2, settings=SETTINGS)


def rows(count: int) -> tuple[list[str], list[str]]:
    texts, labels = zip(*make_rows(count), strict=True)
    return list(texts), list(labels)


@pytest.fixture(scope="module")
def fitted(tiny_base: Path) -> bertie.TextClassifier:
    return estimator(tiny_base).fit(*rows(300))


def test_it_fits_predicts_and_scores(fitted: bertie.TextClassifier) -> None:
    texts, labels = rows(40)
    assert fitted.score(texts, labels) > 0.9
    scores = fitted.predict_proba(texts)
    assert scores.shape == (40, 2)
    assert (fitted.classes_[scores.argmax(axis=1)] == fitted.predict(texts)).all()


def test_it_saves_a_bundle_that_predicts_the_same(fitted: bertie.TextClassifier, tmp_path: Path) -> None:
    texts, _ = rows(20)
    loaded = bertie.load(fitted.save(tmp_path / "bundle"))
    assert np.allclose(loaded.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
    with pytest.raises(OutputError, match="exists already"):
        fitted.save(tmp_path / "bundle")
    fitted.save(tmp_path / "bundle", overwrite=True)


def test_it_works_in_cross_validation(tiny_base: Path) -> None:
    texts, labels = rows(240)
    scores = cross_val_score(estimator(tiny_base), texts, labels, cv=2)
    assert scores.shape == (2,)
    assert scores.min() > 0.6


def test_it_can_be_cloned_unfitted(fitted: bertie.TextClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(UsageError, match="not been fitted"):
        copy.predict(["a"])


def test_labels_keep_their_type(tiny_base: Path) -> None:
    texts, labels = rows(60)
    numbers = [7 if label == "praise" else 3 for label in labels]
    model = estimator(tiny_base).fit(texts, numbers)
    assert set(model.predict(texts).tolist()) <= {3, 7}
    assert model.classes_.tolist() == [3, 7]


def test_lists_of_labels_make_a_multi_label_task(tiny_base: Path) -> None:
    texts, labels = rows(60)
    model = estimator(tiny_base).fit(texts, [[label, "all"] for label in labels])
    assert model.predict(texts[:3]).shape == (3, 3)


def test_bad_data_is_refused(tiny_base: Path) -> None:
    with pytest.raises(UsageError, match="2 texts and 1 labels"):
        estimator(tiny_base).fit(["a", "b"], ["x"])
    with pytest.raises(DataError, match="two labels"):
        estimator(tiny_base).fit(["a", "b"], ["x", "x"])
