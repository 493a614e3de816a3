from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bertie
from bertie.errors import BertieError, BundleDamaged, RequestInvalid
from bertie.runtime import classifier as module
from bertie.runtime.onnx_engine import OnnxEngine
from tests.conftest import WORDS

TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


@settings(deadline=None, max_examples=40)
@given(texts=TEXTS, data=st.data())
def test_an_answer_does_not_depend_on_its_neighbours(
    classifier: bertie.Classifier, texts: list[str], data: st.DataObject
) -> None:
    together = classifier.predict_proba(texts)
    order = data.draw(st.permutations(range(len(texts))))
    shuffled = classifier.predict_proba([texts[place] for place in order])
    assert np.allclose(shuffled, together[list(order)], atol=1e-5)
    alone = classifier.predict_proba([texts[0]])[0]
    assert np.allclose(alone, together[0], atol=1e-5)


def test_small_batches_give_the_same(classifier: bertie.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(WORDS[:n]) for n in range(1, 40)]
    whole = classifier.predict_proba(texts)
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    monkeypatch.setattr(module, "MAX_CELLS", 40)
    assert np.allclose(classifier.predict_proba(texts), whole, atol=1e-5)


def test_no_texts_no_answers(classifier: bertie.Classifier) -> None:
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 2)


def test_threads_may_share_it(classifier: bertie.Classifier) -> None:
    texts = [[" ".join(WORDS[n : n + 9])] for n in range(30)]
    expected = [classifier.predict_proba(one)[0] for one in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: classifier.predict_proba(one)[0], texts))
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("texts", ["one text", [5], [None], [b"bytes"], [("a", "pair")], [["a"]]])
def test_what_is_no_text_is_refused(classifier: bertie.Classifier, texts: list[str]) -> None:
    with pytest.raises(RequestInvalid):
        classifier.predict(texts)


def test_long_texts_are_counted(classifier: bertie.Classifier) -> None:
    assert classifier.truncated(["one " * 100, "one"]) == 1


def test_an_unknown_variant_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(BertieError, match="no variant 'int8'"):
        bertie.load(tiny_bundle, variant="int8")


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleDamaged, match=r"model\.onnx"):
        OnnxEngine(tmp_path / "model.onnx", 1)


def test_loading_and_predicting_imports_nothing_heavy(tiny_bundle: Path) -> None:
    program = (
        f"import bertie, sys; bertie.load({str(tiny_bundle)!r}).predict(['where is my parcel'])\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'fastapi', 'onnx'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_guard_against_heavy_imports_can_fail() -> None:
    program = "import scipy, sys; assert 'scipy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 1
