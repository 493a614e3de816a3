"""Which texts are computed together. Knows lengths and a seed; knows no text and no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertie.tokens import Tokens, by_length

POOL = 250
"""Batches whose texts are sorted by length together: enough for batches of one length, which share matrix products."""


@dataclass(frozen=True)
class Part:
    """What is computed at once: some texts of a batch, as padded windows."""

    texts: NDArray[np.int64]  # [texts], numbers of the texts in the data
    windows: NDArray[np.int64]  # [windows], numbers of the windows in Tokens
    rows: NDArray[np.int64]  # [windows], which of `texts` a window belongs to


class Batches:
    """All texts of a set, dealt out in batches; of each batch, process `rank` of `processes` has a share."""

    def __init__(
        self, tokens: Tokens, batch_size: int, batch_tokens: int, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.batch_size, self.batch_tokens, self.seed = batch_size, batch_tokens, seed
        self._rank, self._processes = rank, processes
        self._counts = np.bincount(tokens.rows, minlength=len(tokens.truncated))
        self._first = np.cumsum(self._counts) - self._counts
        # What a text costs: its windows, each padded to its longest.
        self._cells = np.maximum.reduceat(tokens.lengths, self._first) * self._counts
        self._tokens = np.add.reduceat(tokens.lengths, self._first)

    @property
    def in_pass(self) -> int:
        """Batches in one pass over the texts."""
        return -(-len(self._counts) // self.batch_size)

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Return the batches of one pass: every text once, those of like length together, all else random.

        The same seed and number give the same batches, on every machine.
        """
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self._counts))
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), self.batch_size * POOL):
            pool = order[start : start + self.batch_size * POOL]
            pool = pool[np.argsort(-self._cells[pool], kind="stable")]
            batches.extend(pool[first : first + self.batch_size] for first in range(0, len(pool), self.batch_size))
        return [batches[place] for place in random.permutation(len(batches))]

    def share(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what this process computes of a batch: like lengths for all, and nothing where texts are too few."""
        return texts[self._rank :: self._processes]

    def tokens_in(self, texts: NDArray[np.int64]) -> int:
        """Return how many tokens some texts have, without padding."""
        return int(self._tokens[texts].sum())

    def halve_budget(self) -> bool:
        """Compute fewer tokens at once from now on; return False if one text alone fills the budget already."""
        self.batch_tokens = min(self.batch_tokens, int(self._cells.max()) * self.batch_size) // 2
        return self.batch_tokens >= int(self._cells.max())

    def parts(self, texts: NDArray[np.int64]) -> Iterator[Part]:
        """Cut a batch into parts of at most `batch_tokens` padded tokens; the windows of a text stay together."""
        for group in by_length(self._cells[texts], len(texts), self.batch_tokens):
            chosen = texts[group]
            counts = self._counts[chosen]
            # The windows of a text are neighbours: count on from the first of each.
            ends = np.cumsum(counts)
            windows = np.arange(ends[-1]) + np.repeat(self._first[chosen] - (ends - counts), counts)
            yield Part(chosen, windows, np.repeat(np.arange(len(chosen)), counts))
