"""What simple methods reach on the same split: the commonest label, bag of words, tf-idf with logistic regression.

Bags of words come within a point or two of large encoders on many sets, so a model is always shown beside them.
Of a very large set they see a sample, and the report says so: new pairs of words come with every row, without end.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.data.examples import Examples
from bertie.errors import need
from bertie.evaluate.headline import intervals
from bertie.tokens import Text

MOST_CHARACTERS = 10_000_000
"""Of training texts that the simple methods see: some 37,000 texts of 50 words, which take a minute and under 1 GB."""

MOST_COEFFICIENTS = 2_000_000
"""Words, and pairs of words, times labels. Fitting holds some 25 copies of the coefficients."""


def baselines(train: Examples, test: Examples, labels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield for each simple method its name, headline metrics with intervals, and seconds to fit and to predict.

    `fit_rows` of the `train_rows` were fitted on: all of them, or a random sample of `MOST_CHARACTERS`.
    """
    rows = _sample(train, labels)
    fit, wanted = train.take(rows), test.targets(labels)
    truth = fit.targets(labels)
    single = train.kind == "single-label"
    for name, make in _methods(MOST_COEFFICIENTS // len(labels), single=single).items():
        started = time.perf_counter()
        method = make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slow convergence and labels without rows do not spoil a baseline
            method.fit(_flat(fit.texts), truth.argmax(axis=1) if single else truth)
            fitted = time.perf_counter()
            answer = np.asarray(method.predict(_flat(test.texts)))
        done = time.perf_counter()
        picked = np.eye(len(labels), dtype=np.int64)[answer] if single else answer.reshape(wanted.shape)
        yield {
            "name": name,
            **intervals(wanted, picked, single=single),
            "fit_rows": len(fit),
            "train_rows": len(train),
            "fit_seconds": fitted - started,
            "predict_seconds": done - fitted,
        }


def _sample(train: Examples, labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the rows to fit on, in the order of the file; of each label there is one at least."""
    sizes = np.array([len(text) if isinstance(text, str) else sum(map(len, text)) for text in train.texts])
    if sizes.sum() <= MOST_CHARACTERS:
        return np.arange(len(train))
    order = np.random.default_rng(0).permutation(len(train))
    count = np.searchsorted(np.cumsum(sizes[order]), MOST_CHARACTERS)
    return np.union1d(order[:count], train.targets(labels).argmax(axis=0))


def _flat(texts: Sequence[Text]) -> NDArray[np.object_]:
    flat = [text if isinstance(text, str) else " ".join(text) for text in texts]
    return np.asarray(flat, dtype=object)


def _methods(most_words: int, *, single: bool) -> dict[str, Callable[[], Any]]:
    try:
        from sklearn.dummy import DummyClassifier  # noqa: PLC0415 - an extra
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer  # noqa: PLC0415
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.multiclass import OneVsRestClassifier  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    except ImportError as error:
        raise need("evaluate", error) from error

    def linear(words: Any) -> Callable[[], Any]:
        regression = LogisticRegression(C=10.0, max_iter=1000)
        return lambda: make_pipeline(words, regression if single else OneVsRestClassifier(regression))

    # Tokens of one character are words in some languages, and the pattern keeps what the default would drop.
    pattern = r"(?u)\b\w+\b"
    return {
        "majority": DummyClassifier,
        "bag of words": linear(CountVectorizer(token_pattern=pattern, binary=True, max_features=most_words)),
        "tf-idf": linear(
            TfidfVectorizer(token_pattern=pattern, ngram_range=(1, 2), sublinear_tf=True, max_features=most_words)
        ),
    }
