"""Between requests and the model: one thread computes batch after batch, and the next one forms while it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from bertie.errors import BundleUnusable, DeadlinePassed, NotReady
from bertie.runtime.classifier import Classifier
from bertie.scores import Decision, Prediction, predictions, probabilities
from bertie.serve.batching import LEAST_TOKENS, MAX_ROWS, Batch, Job, Waiting
from bertie.tokens import Text, Tokens, pooled

LOG = logging.getLogger("bertie")

INLINE_CHARACTERS = 4000
"""Texts up to this size are tokenized at once, in a tenth of a millisecond or two; a thread would cost as much."""

INLINE_SCORES = 2000
"""Scores of an answer that are written at once, in some milliseconds; more would hold up all others."""

RATE_MEMORY = 0.05
"""Weight of the last batch in the running mean of tokens a second."""

PHASES = ("tokenize", "queue", "model")

HOPELESS = 1.5
"""How many times the time that is left a request may take, as far as one can tell, and is tried all the same."""

FIRST_LENGTH = 16
"""Tokens of each window of the batch that is computed once to begin with a rate that is about right."""


@dataclass(frozen=True)
class Answer:
    """What a request's texts were scored, and the seconds that its phases took."""

    logits: NDArray[np.float32]  # [texts, labels]
    decision: Decision
    phases: dict[str, float]
    name: str = ""
    """Which model it came from: NAME/BUNDLE@DIGEST."""
    tokens: int = 0
    """Of all its windows."""

    @cached_property
    def predictions(self) -> list[Prediction]:
        """One for each text, in order."""
        return predictions(probabilities(self.logits, self.decision), self.decision)


class Scheduler:
    """Answers requests with a classifier. `classify` belongs to one event loop.

    `observe` is told of each batch that has run, in the model's thread.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        batch_tokens: int,
        queue_seconds: float,
        observe: Callable[[Batch], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.classifier = classifier
        self._queue_seconds, self._observe, self._clock = queue_seconds, observe, clock
        self.rate = self._first_rate(batch_tokens)
        """Tokens a second that the model computes while it computes."""
        self._waiting = Waiting(batch_tokens=batch_tokens)
        self._waiting.pace(self.rate)
        self._changed = threading.Condition()
        self._stopped = False
        self._told: list[asyncio.Future[bool]] = []
        """Whom the model's thread has an answer for, and has not woken yet."""
        self._thread = threading.Thread(target=self._work, name="bertie-model", daemon=True)
        self._thread.start()

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of one model call at most, at the model's speed."""
        return self._waiting.batch_tokens

    @property
    def tokens(self) -> int:
        """Tokens that wait for the model."""
        return self._waiting.tokens

    @property
    def seconds(self) -> float:
        """How long what waits now will take."""
        return self.tokens / self.rate

    @property
    def _room(self) -> float:
        """Tokens that may wait: what is computed in that time, and not so few that batches are of next to nothing."""
        return max(self.rate * self._queue_seconds, min(LEAST_TOKENS, self._waiting.batch_tokens))

    async def classify(self, texts: Sequence[Text], *, timeout: float) -> Answer:
        """Return what the texts are scored.

        Raises RequestInvalid for what is no text, Overloaded if too much waits already, DeadlinePassed after `timeout`
        seconds, BundleUnusable for scores that are no numbers. Where the caller is cancelled, the windows that still
        wait are not computed.
        """
        begun = self._clock()
        # Before the work of tokenizing: a server that has too much to do must refuse at little cost.
        self._waiting.check(len(texts), room=self._room)
        tokens = await self._encoded(texts)
        encoded = self._clock()
        self._refuse_hopeless(int(tokens.starts[-1]), begun + timeout - encoded)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool] = loop.create_future()
        logits = np.empty((len(tokens.rows), len(self.classifier.labels)), dtype=np.float32)
        job = Job(tokens, logits, begun + timeout, lambda: self._told.append(answered))
        with self._changed:
            if self._stopped:
                raise NotReady("the server is shutting down.", hint="send the request to another one")
            self._waiting.put(job, room=self._room)
            self._changed.notify()
        timer = loop.call_later(max(0.0, job.deadline - self._clock()), _settle, answered, False)
        try:
            if not await answered:
                raise DeadlinePassed(
                    f"the answer was not ready within {timeout:g} seconds.", hint="send fewer texts, or later"
                )
        finally:
            timer.cancel()
            job.gone = True
        if job.error is not None:
            raise job.error
        computed = self._clock()
        raw = pooled(job.logits, tokens.rows, len(texts))
        if not np.isfinite(raw).all():
            raise BundleUnusable("the model's scores for this request are no numbers.")
        phases = {"tokenize": encoded - begun, "queue": job.begun - encoded, "model": computed - job.begun}
        return Answer(raw, self.classifier.decision, phases, tokens=job.size)

    def _refuse_hopeless(self, size: int, left: float) -> None:
        """Raise DeadlinePassed for what would take far longer than there is time: it would be computed for nobody."""
        needed = size / self.rate
        if size > self._waiting.batch_tokens and needed > HOPELESS * left:
            raise DeadlinePassed(
                f"the texts of this request take about {needed:.0f} seconds, and {max(0.0, left):.0f} are left.",
                hint="send fewer texts at once",
            )

    async def _encoded(self, texts: Sequence[Text]) -> Tokens:
        parts = (part for text in texts for part in (text if isinstance(text, tuple) else (text,)))
        size = sum(len(part) for part in parts if isinstance(part, str))
        if size <= INLINE_CHARACTERS:
            return self.classifier.encode(texts)
        return await to_thread.run_sync(self.classifier.encode, texts)

    def close(self) -> None:
        """Compute what waits, take nothing new, and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _first_rate(self, tokens: int) -> float:
        windows = np.ones((max(1, min(MAX_ROWS, tokens // FIRST_LENGTH)), FIRST_LENGTH), dtype=np.int64)
        inputs = {"input_ids": windows, "attention_mask": windows, "token_type_ids": np.zeros_like(windows)}
        self.classifier.run(inputs)
        begun = self._clock()
        self.classifier.run(inputs)
        return windows.size / max(self._clock() - begun, 1e-6)

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Wait for the next batch and compute it; return whether there may be another."""
        batch = None
        try:
            with self._changed:
                while (batch := self._waiting.take(self._clock())) is None:
                    self._tell()
                    if self._stopped:
                        return False
                    self._changed.wait()
            begun = self._clock()
            self._compute(batch)
            self._tell()
            measured = batch.tokens / max(self._clock() - begun, 1e-6)
            # Small batches say little about how fast large ones are.
            weight = RATE_MEMORY * min(1.0, batch.tokens / self._waiting.batch_tokens)
            self.rate += weight * (measured - self.rate)
            self._waiting.pace(self.rate)
            if self._observe is not None:
                self._observe(batch)
        except Exception as error:  # without this thread nobody would be answered any more, and /ping would say 200
            self._fail_all(batch, error)
        return True

    def _fail_all(self, batch: Batch | None, error: Exception) -> None:
        # What an error of a library says may hold texts; where it happened does not.
        places = "".join(traceback.format_tb(error.__traceback__))
        LOG.error("the model's thread failed with %s and goes on:\n%s", type(error).__name__, places)
        with self._changed:
            self._waiting.clear(error)
        if batch is not None:
            batch.fail(error)
        self._tell()

    def _tell(self) -> None:
        """Wake all who wait for what has ended, at once: each waking of the event loop is a system call."""
        told, self._told = self._told, []
        if told:
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                told[0].get_loop().call_soon_threadsafe(_settle_all, told)

    def _compute(self, batch: Batch) -> None:
        """Run the model; where that fails, in halves, so that only the request fails that is at fault."""
        try:
            batch.fill(self.classifier.run(batch.inputs(self.classifier.pad_id)))
        except Exception as error:
            halves = batch.halves()
            for half in halves:
                self._compute(half)
            if not halves:
                batch.fail(error)


def _settle(answered: asyncio.Future[bool], there: bool) -> None:
    if not answered.done():
        answered.set_result(there)


def _settle_all(told: list[asyncio.Future[bool]]) -> None:
    for answered in told:
        _settle(answered, True)
