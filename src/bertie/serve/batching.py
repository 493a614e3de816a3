"""Which windows run together. Requests wait here; the next batch is formed the moment the model is free.

No thread, no timer and no clock: who calls says what time it is, and how fast the model is. A batch always holds a
window of the oldest request, and besides it the windows with which the model computes most tokens in the least time:
those of like lengths, because shorter ones are padded, and as many as do not make those wait for long that come then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.errors import DeadlinePassed, Overloaded
from bertie.tokens import Tokens, join

CALL_SECONDS = 0.001
"""What a model call takes beyond its tokens: 0.8 to 1.4 ms on the CPUs it was measured on."""

BATCH_SECONDS = 0.016
"""Computed at once at most: who comes meanwhile waits, and a longer batch gains no more than a twentieth."""

LEAST_TOKENS = 128
"""Tokens that may be computed at once, and wait, whatever the model's speed."""

MAX_ROWS = 256
"""Windows of one model call."""

SLICE = 4 * MAX_ROWS
"""Windows of one request that are looked at for the next batch: to sort a million takes longer than to run some."""


@dataclass(eq=False)
class Job:
    """One request: its windows, which of them still wait, and the logits of those that have run."""

    tokens: Tokens
    logits: NDArray[np.float32]  # [windows, labels]
    deadline: float
    """When nobody waits for the answer any more, in the caller's time."""
    notify: Callable[[], None]
    """Called once, when `error` or all logits are there."""
    large: bool = False
    """Whether it is more than one batch."""
    error: Exception | None = None
    gone: bool = False
    """Whether the client has left."""
    begun: float = 0.0
    """When its first windows were taken."""
    lengths: NDArray[np.int64] = field(init=False)
    """Tokens of each window."""
    waiting: NDArray[np.bool_] = field(init=False)
    first: int = 0
    """The first window that waits; none does where it is beyond the last."""
    pending: int = field(init=False)
    """Tokens that wait."""
    left: int = field(init=False)
    """Windows that have not run; -1 after the end."""

    def __post_init__(self) -> None:
        self.lengths = self.tokens.lengths
        self.waiting = np.ones(len(self.lengths), dtype=np.bool_)
        self.left, self.pending = len(self.lengths), self.size

    @property
    def size(self) -> int:
        """Tokens of all its windows."""
        return int(self.tokens.starts[-1])

    @property
    def waits(self) -> bool:
        """Whether a window of it waits."""
        return self.first < len(self.waiting)

    def next(self) -> NDArray[np.int64]:
        """Return the first windows that wait, those of one slice at most."""
        return self.first + np.flatnonzero(self.waiting[self.first : self.first + SLICE])

    def take(self, windows: NDArray[np.int64], now: float) -> int:
        """Have some of `next` wait no longer; return their tokens."""
        if self.pending == self.size:
            self.begun = now
        self.waiting[windows] = False
        rest = self.waiting[self.first : self.first + SLICE]
        self.first += int(rest.argmax()) if rest.any() else len(rest)
        taken = int(self.lengths[windows].sum())
        self.pending -= taken
        return taken

    def end(self, error: Exception | None = None) -> None:
        """Tell who waits, unless that has happened."""
        if self.left >= 0:
            self.error, self.left = error, -1
            self.notify()


@dataclass(frozen=True)
class Batch:
    """What one model call computes: some windows of some jobs, in this order."""

    parts: tuple[tuple[Job, NDArray[np.int64]], ...]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each window."""
        return np.concatenate([job.lengths[windows] for job, windows in self.parts])

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return int(self.lengths.sum())

    def inputs(self, pad_id: int) -> dict[str, NDArray[np.int64]]:
        """Return the model's inputs, [windows, longest window]."""
        # To put all windows of small requests together takes less than to choose some; not so for large ones.
        whole = [len(job.lengths) <= SLICE for job, _ in self.parts]
        some = [
            job.tokens if all_of_it else job.tokens.windows(windows)
            for all_of_it, (job, windows) in zip(whole, self.parts, strict=True)
        ]
        firsts = np.cumsum([0, *(len(tokens.rows) for tokens in some)])
        places = [
            first + (windows if all_of_it else np.arange(len(windows)))
            for all_of_it, first, (_, windows) in zip(whole, firsts[:-1], self.parts, strict=True)
        ]
        return join(some).pad(np.concatenate(places), pad_id)

    def halves(self) -> tuple[Batch, ...]:
        """Return two batches of half the jobs each; nothing for one job."""
        middle = len(self.parts) // 2
        return (Batch(self.parts[:middle]), Batch(self.parts[middle:])) if middle else ()

    def fill(self, logits: NDArray[np.float32]) -> None:
        """Give each job its rows, and tell those that have all."""
        start = 0
        for job, windows in self.parts:
            job.logits[windows] = logits[start : start + len(windows)]
            start += len(windows)
            if job.left > 0:
                job.left -= len(windows)
                if not job.left:
                    job.end()

    def fail(self, error: Exception) -> None:
        """Tell all jobs that there will be no answer."""
        for job, _ in self.parts:
            job.end(error)


class Waiting:
    """The jobs that wait, oldest first, at most so many tokens of them. Not safe to call from several threads.

    A job of more than one batch goes behind the others after each batch that it was in, so that a large request cannot
    hold up small ones, and of the room it takes at most half.
    """

    def __init__(self, *, batch_tokens: int, overhead: float = 0.0) -> None:
        self._most = batch_tokens
        self.batch_tokens = batch_tokens
        """Padded tokens of a batch at most."""
        self.overhead = overhead
        """What a model call takes beyond its tokens, in tokens."""
        self.jobs: list[Job] = []
        self.tokens = 0
        """Tokens that wait."""
        self._large: list[Job] = []
        """Those of the jobs that are more than one batch."""

    def pace(self, rate: float) -> None:
        """Say how many tokens the model computes in a second: a batch is what it computes in BATCH_SECONDS."""
        self.batch_tokens = min(self._most, max(LEAST_TOKENS, int(rate * BATCH_SECONDS)))
        self.overhead = rate * CALL_SECONDS

    def put(self, job: Job, *, room: float) -> None:
        """Let a job wait. Raises Overloaded as `check` does."""
        self.check(job.size, room=room)
        self.jobs.append(job)
        self.tokens += job.size
        job.large = job.size > self.batch_tokens
        if job.large:
            self._large.append(job)

    def check(self, size: int, *, room: float) -> None:
        """Raise Overloaded if with so many tokens more than `room` would wait; where nothing waits, any job may."""
        if not self.jobs:
            return
        # Half of the room at most for each of the large ones: the other half is for those that come meanwhile.
        half = room / 2
        held = self.tokens - sum(max(0.0, job.pending - half) for job in self._large)
        if held + (size if size <= self.batch_tokens else min(size, half)) > room:
            raise Overloaded(
                f"{self.tokens} tokens wait already, which is as much as can be answered in time.",
                hint="try again after the seconds in Retry-After, or start more servers",
            )

    def take(self, now: float) -> Batch | None:
        """Return the next batch, nothing if nothing waits. Jobs that nobody waits for any more are left out."""
        self._drop(now)
        if not self.jobs:
            return None
        there = [job.next() for job in self.jobs]
        lengths = np.concatenate([job.lengths[windows] for job, windows in zip(self.jobs, there, strict=True)])
        ages = np.repeat(np.arange(len(self.jobs)), [len(windows) for windows in there])
        # Of windows of one length the oldest stand last, next to the longer ones, where the choice begins.
        order = np.lexsort((-ages, lengths))
        anchor = int(np.flatnonzero(ages[order] == 0)[-1])
        picked = order[slice(*best_range(lengths[order], anchor, self.batch_tokens, self.overhead))]
        return self._taken(picked, there, ages, now)

    def clear(self, error: Exception) -> None:
        """Tell all that wait that there will be no answer."""
        jobs, self.jobs, self._large, self.tokens = self.jobs, [], [], 0
        for job in jobs:
            job.end(error)

    def _taken(
        self, picked: NDArray[np.int64], there: list[NDArray[np.int64]], ages: NDArray[np.int64], now: float
    ) -> Batch:
        firsts = np.searchsorted(ages, np.arange(len(self.jobs)))
        parts = []
        for age in np.unique(ages[picked]):
            job = self.jobs[age]
            windows = there[age][np.sort(picked[ages[picked] == age]) - firsts[age]]
            self.tokens -= job.take(windows, now)
            parts.append((job, windows))
        served = [job for job, _ in parts if job.large]
        self._keep([*(job for job in self.jobs if job not in served), *served] if served else self.jobs)
        return Batch(tuple(parts))

    def _keep(self, jobs: list[Job]) -> None:
        self.jobs = [job for job in jobs if job.waits]
        if self._large:
            self._large = [job for job in self.jobs if job.large]

    def _drop(self, now: float) -> None:
        for job in self.jobs:
            if job.deadline <= now:
                job.end(DeadlinePassed("the answer was not ready in time.", hint="send fewer texts, or later"))
        staying = [job for job in self.jobs if job.left > 0 and not job.gone]
        if len(staying) < len(self.jobs):
            self._keep(staying)
            self.tokens = sum(job.pending for job in self.jobs)


def best_range(lengths: NDArray[np.int64], anchor: int, budget: int, overhead: float) -> tuple[int, int]:
    """Return the range of ascending lengths, with `anchor` in it, that computes most tokens in the least time.

    `anchor` is the last window of its length. A range takes at most MAX_ROWS windows and `budget` padded tokens, one
    window at least; it begins where a length begins, so that what is left over is not all of one length. A model call
    takes as long as its padded tokens and `overhead` more.
    """
    changes = np.flatnonzero(np.diff(lengths)) + 1
    begins = np.concatenate([[0], changes[changes <= anchor]])
    lasts = np.concatenate([changes[changes > anchor] - 1, [len(lengths) - 1]])
    longest = np.maximum(lengths[lasts], 1)
    rows = np.clip(budget // longest, 1, MAX_ROWS)
    ends = np.minimum(lasts, anchor + rows - 1)
    starts = np.maximum(begins[None, :], (ends + 1 - rows)[:, None])
    sums = np.concatenate([[0], np.cumsum(lengths)])
    computed = sums[ends + 1][:, None] - sums[starts]
    worth: NDArray[Any] = computed / (overhead + (ends[:, None] + 1 - starts) * longest[:, None])
    end, start = np.unravel_index(int(worth.argmax()), worth.shape)
    return int(starts[end, start]), int(ends[end]) + 1
