"""How good the weights are on the validation rows; with several processes, each scores its share of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bertie.evaluate.headline import headline
from bertie.evaluate.metrics import log_loss
from bertie.scores import chosen, probabilities
from bertie.token_cache import TokenCache, encoded
from bertie.train.cluster import Cluster
from bertie.train.forward import Forward, logits_of
from bertie.train.job import Job


class Validation:
    """The validation rows of a job, and this process's share of them as tokens."""

    def __init__(self, job: Job, cluster: Cluster, cache: TokenCache | None) -> None:
        self._job, self._cluster = job, cluster
        self.mine = encoded(job.encoder, job.valid.texts[cluster.rank :: cluster.size], cache)
        self._targets = job.valid.targets(job.labels)

    def logits(self, forward: Forward, batch_tokens: int) -> NDArray[np.float32]:
        """Return the logits of all rows, [rows, labels]; every process has to call it."""
        mine = np.empty((0, len(self._job.labels)), dtype=np.float32)
        if len(self.mine.truncated):
            mine = logits_of(forward, self.mine, batch_tokens)
        found = np.concatenate(self._cluster.gather(mine))
        size, count = self._cluster.size, len(self._targets)
        order = np.concatenate([np.arange(rank, count, size) for rank in range(size)])
        logits = np.empty_like(found)
        logits[order] = found
        return logits

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
