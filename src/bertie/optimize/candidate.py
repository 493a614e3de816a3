"""What a candidate is, and what it is made from. Each lives in a file of its own; candidates.py lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertie.bundle.manifest import Variant
from bertie.runtime import cpu
from bertie.tokens import TextEncoder, Tokens, by_length

Inputs = dict[str, NDArray[np.int64]]

BATCH_TEXTS = 16
CALIBRATION_TOKENS = 40_000
"""Enough for ranges that no longer move: at CoLA's lengths, as with four times as many."""

LONGEST_PROGRAM = 64
PROGRAM_STEP = 8
"""Up to which length a program for single texts of a known length saves a fair share of the time; the lengths' step."""


@dataclass(frozen=True)
class Source:
    """The model to optimize."""

    model: Path
    """The portable ONNX graph."""
    calibration: Sequence[Inputs]
    """Inputs of batches of training texts, each of one length, so that no padding is measured; may be empty."""
    lengths: tuple[int, ...]
    """Lengths for which programs of their own pay."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What one candidate has measured and another may use."""


class Candidate(Protocol):
    """One way to make a variant."""

    name: str
    rescues: str
    """The candidate that must have failed the contract before this slower one is tried; empty for one always tried."""

    def lacks(self, source: Source) -> str:
        """Return why it cannot be built here, as half a sentence; nothing if it can."""
        ...

    def build(self, source: Source, folder: Path) -> Variant:
        """Write its files into a folder. Whatever it raises is a reason to reject it."""
        ...


def calibration(encoder: TextEncoder, texts: Sequence[str | tuple[str, str]]) -> list[Inputs]:
    """Return batches of texts of one length each, some CALIBRATION_TOKENS in all, in random order."""
    tokens = encoder.encode(texts)
    order = np.random.default_rng(0).permutation(len(tokens.lengths))
    enough = int(np.searchsorted(np.cumsum(tokens.lengths[order]), CALIBRATION_TOKENS)) + 1
    batches = list(_of_one_length(tokens, order[:enough]))
    np.random.default_rng(0).shuffle(batches)
    return [tokens.pad(windows, encoder.pad_id) for windows in batches]


def _of_one_length(tokens: Tokens, windows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    lengths = tokens.lengths[windows]
    for length in np.unique(lengths):
        same = windows[lengths == length]
        for places in by_length(tokens.lengths[same], BATCH_TEXTS, CALIBRATION_TOKENS):
            yield same[places]


def program_lengths(tokens: Tokens) -> tuple[int, ...]:
    """Return the one or two lengths that are worth programs, those with which short texts need the least padding.

    Not more: each program has weights of its own, and the processor's cache holds one or two.
    """
    short = tokens.lengths[tokens.lengths <= LONGEST_PROGRAM]
    if 2 * len(short) < len(tokens.lengths):
        return ()
    longest = int(-(-short.max() // PROGRAM_STEP) * PROGRAM_STEP)
    shorter = range(longest, 0, -PROGRAM_STEP)  # the longest first: where all are equal, one program will do
    best = min(shorter, key=lambda length: int(np.where(short <= length, length, longest).sum()))
    return tuple(sorted({best, longest}))


def fast_sets(known: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of some instruction sets this processor has; a variant measured with them needs one of them."""
    return tuple(name for name in known if name in cpu.instruction_sets())


def needs_package(*names: str) -> str:
    """Return what is missing of some packages, as half a sentence."""
    missing = [name for name in names if find_spec(name) is None]
    return f"needs {' and '.join(missing)} (pip install 'bertie[optimize]')" if missing else ""
