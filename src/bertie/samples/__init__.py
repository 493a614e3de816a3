"""The data that ships with the package: support messages in eight classes. See README.md beside this file."""

from __future__ import annotations

from pathlib import Path

SPLITS = ("train", "valid", "test")


def path(split: str) -> Path:
    """Return the file of a split: train, valid or test."""
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    return Path(__file__).parent / f"{split}.csv"
