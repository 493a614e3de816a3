"""Every bundle format ever released stays readable, and predicts what it predicted then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bertie
from bertie.bundle.manifest import FORMAT
from bertie.tokens import Text

BUNDLES = Path(__file__).parents[1] / "bundles"


def test_there_is_a_golden_bundle_of_each_format() -> None:
    assert {folder.name for folder in BUNDLES.iterdir()} == {f"v{number}" for number in range(1, FORMAT + 1)}


@pytest.mark.parametrize("folder", sorted(BUNDLES.iterdir()), ids=lambda folder: folder.name)
def test_a_golden_bundle_predicts_what_it_did(folder: Path) -> None:
    classifier = bertie.load(folder / "bundle")
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    texts: list[Text] = [tuple(text) if isinstance(text, list) else text for text in expected["texts"]]
    assert np.allclose(classifier.predict_proba(texts), expected["scores"], atol=1e-4)
    assert [prediction.label for prediction in classifier.predict(texts)] == expected["labels"]
