"""Bertie: from labelled texts to a fast, cheap, trustworthy classifier in production.

>>> classifier = bertie.load("runs/support/bundle")
>>> classifier.predict(["Where is my parcel?"])[0].label
'delivery'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bertie.errors import BertieError
from bertie.version import __version__

# ONNX Runtime from 1.29 on reports its use to Microsoft unless it is told not to before it is imported
# (microsoft/onnxruntime, pull request 27379). Who wants to report sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from bertie.client.http import AsyncClient, Client
    from bertie.pipeline.estimator import TextClassifier
    from bertie.runtime.classifier import Classifier, load
    from bertie.scores import Prediction

__all__ = [
    "AsyncClient",
    "BertieError",
    "Classifier",
    "Client",
    "Prediction",
    "TextClassifier",
    "__version__",
    "load",
]

# Each name is imported when it is first used: `bertie --help` needs no numpy, and serving needs no scikit-learn.
_HOMES = {
    "AsyncClient": "bertie.client.http",
    "Classifier": "bertie.runtime.classifier",
    "Client": "bertie.client.http",
    "Prediction": "bertie.scores",
    "TextClassifier": "bertie.pipeline.estimator",
    "load": "bertie.runtime.classifier",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bertie' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
