"""How good the weights are on the validation rows; with several processes, each scores its share of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bertie.evaluate.headline import headline
from bertie.evaluate.metrics import log_loss
from bertie.scores import chosen, probabilities
from bertie.token_cache import TokenCache, encoded
from bertie.tokens import Tokens
from bertie.train.batches import Batches
from bertie.train.cluster import Cluster
from bertie.train.forward import Forward, logits_of
from bertie.train.job import Job
from bertie.train.loop import make_room


class _Stopped(Exception):
    pass


def _until(stopped: Callable[[], bool], forward: Forward) -> Forward:
    """Return what runs a batch unless somebody asked to stop."""

    def run(tokens: Tokens, windows: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> Tensor:
        if stopped():
            raise _Stopped
        return forward(tokens, windows, rows, count)

    return run


class Validation:
    """The validation rows of a job, and this process's share of them as tokens."""

    def __init__(self, job: Job, cluster: Cluster, cache: TokenCache | None) -> None:
        self._job, self._cluster = job, cluster
        self.mine = encoded(job.encoder, job.valid.texts[cluster.rank :: cluster.size], cache)
        self._targets = job.valid.targets(job.labels)

    def logits(self, forward: Forward, batches: Batches, stopped: Callable[[], bool]) -> NDArray[np.float32] | None:
        """Return the logits of all rows, [rows, labels]; every process has to call it.

        None once `stopped` says so in one of the processes: it is asked before each batch, because validation may take
        longer than the time that is left after SIGTERM. Batches that memory does not hold are halved.
        """
        try:
            mine, left = self._own(_until(stopped, forward), batches), False
        except _Stopped:
            mine, left = self._none(), True
        if self._cluster.agree(left):
            return None
        found = np.concatenate(self._cluster.gather(mine))
        size, count = self._cluster.size, len(self._targets)
        order = np.concatenate([np.arange(rank, count, size) for rank in range(size)])
        logits = np.empty_like(found)
        logits[order] = found
        return logits

    def _own(self, forward: Forward, batches: Batches) -> NDArray[np.float32]:
        while len(self.mine.truncated):
            try:
                return logits_of(forward, self.mine, batches.batch_tokens)
            except (RuntimeError, MemoryError) as error:
                make_room(batches, error)
        return self._none()

    def _none(self) -> NDArray[np.float32]:
        return np.empty((0, len(self._job.labels)), dtype=np.float32)

    def metrics(self, logits: NDArray[np.float32]) -> dict[str, float]:
        """Return headline metrics and log loss, as decided by the job's decision."""
        scores = probabilities(logits, self._job.decision)
        single = self._job.decision.kind == "single-label"
        values = headline(self._targets, chosen(scores, self._job.decision), single=single)
        return values | {"log_loss": log_loss(self._targets, scores, single=single)}

    def truncated(self) -> int:
        """Return how many rows lost something to the limits; every process has to call it."""
        mine = np.array([self.mine.truncated.sum()])
        return int(np.concatenate(self._cluster.gather(mine)).sum())
