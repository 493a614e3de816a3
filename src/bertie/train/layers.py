"""Which layers of an encoder stay in a smaller one. Knows no PyTorch."""

from __future__ import annotations

from typing import Literal, TypeAlias

from bertie.errors import UsageError

Which: TypeAlias = Literal["spread", "first"]


def chosen_layers(keep: int, of: int, which: Which) -> tuple[int, ...]:
    """Return which of `of` layers stay, from 0 on, in their order; the first is always among them.

    "spread": evenly, with the first and the last, as DistilBERT's authors took 0, 2, 4, 7, 9, 11 of 12 (transformers,
    `examples/research_projects/distillation/scripts/extract.py`). "first": those nearest to the text, which lose the
    least by themselves (Sajjad et al. 2020, arXiv 2004.03844). Raises UsageError for more layers than there are.
    """
    if not 1 <= keep <= of:
        raise UsageError(f"--layers {keep} cannot be kept of an encoder that has {of}.", expected=f"from 1 to {of}")
    if which == "first" or keep == 1:
        return tuple(range(keep))
    return tuple(round(place * (of - 1) / (keep - 1)) for place in range(keep))
