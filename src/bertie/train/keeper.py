"""What is kept so that another process can go on as if nothing had happened: weights, random numbers, standing."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from bertie.errors import OutputError, UsageError
from bertie.talk import Talk
from bertie.train.checkpoints import Checkpoint, Checkpoints
from bertie.train.cluster import Cluster
from bertie.train.job import Job
from bertie.train.weights import Weights


@dataclass
class Standing:
    """Where training stands: all of a checkpoint that is no tensor."""

    update: int = 0
    seconds: float = 0.0
    gained: int = 0  # the pass in which the metric last got better
    best: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    precision: str = ""
    batch_tokens: int = 0


class Keeper:
    """Writes and reads the checkpoints of a training; of several processes, the first one writes."""

    def __init__(self, job: Job, talk: Talk, cluster: Cluster, device: torch.device) -> None:
        self._job, self._talk, self._cluster, self._device = job, talk, cluster, device
        settings = job.settings
        self._checkpoints = Checkpoints.at(settings.checkpoints or str(job.run / "checkpoints"), settings.keep)
        self._written = time.monotonic()

    def due(self, update: int) -> bool:
        """Return whether it is time by number; the same in every process."""
        every = self._job.settings.checkpoint_updates
        return bool(every) and update % every == 0

    def late(self) -> bool:
        """Return whether it is time by the clock; the processes agree on it."""
        minutes = self._job.settings.checkpoint_minutes
        late = time.monotonic() - self._written > 60 * minutes
        return bool(minutes) and self._cluster.agree(self._cluster.leads and late)

    def keep(self, standing: Standing, weights: Weights, best: Tensor | None, *, must: bool) -> None:
        """Write a checkpoint. Where that fails, training goes on unless it `must`: the older ones are still there."""
        tensors = {"random": self._everybodys(torch.get_rng_state())}
        if self._device.type == "cuda":
            tensors["random.cuda"] = self._everybodys(torch.cuda.get_rng_state(self._device))
        if best is not None:
            tensors["best"] = best
        self._written = time.monotonic()
        if not self._cluster.leads:
            return
        facts = {"standing": asdict(standing), "job": self._job.identity}
        try:
            self._checkpoints.save(Checkpoint(standing.update, tensors | weights.state(), facts))
        except OutputError as error:
            if must:
                raise
            self._talk.warn(f"no checkpoint after update {standing.update}: {error.what} Training goes on.")
            return
        try:
            self._checkpoints.prune()
        except OutputError as error:
            self._talk.warn(f"older checkpoints stay for now: {error.what}")

    def _everybodys(self, state: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate(self._cluster.gather(state.numpy()[None])))

    def find(self) -> Checkpoint | None:
        """Return the newest checkpoint that any process can read, in every process; None if there is none.

        Raises UsageError if it belongs to another training.
        """
        found = self._checkpoints.latest()
        if found is not None and not self._cluster.leads and found.facts["job"] != self._job.identity:
            found = None  # left on this host by another training: this one's are written by who leads
        rank, update = self._cluster.newest(0 if found is None else found.update)
        if not update:
            return None
        if found is None or self._cluster.size > 1:
            found = self._handed_out(found, rank)
        if found.facts["job"] != self._job.identity:
            raise UsageError(
                "the checkpoint belongs to another training: its data, base or settings were not these.",
                hint="restore what was changed, or begin anew: --overwrite, without --auto-resume",
            )
        return found

    def _handed_out(self, found: Checkpoint | None, rank: int) -> Checkpoint:
        """Give every process the checkpoint that one of them has read."""
        packed = found.to_bytes() if found is not None and self._cluster.rank == rank else b""
        size = torch.tensor([len(packed)])
        self._cluster.broadcast(size, source=rank)
        content = torch.frombuffer(bytearray(packed or bytes(int(size))), dtype=torch.uint8)
        self._cluster.broadcast(content, source=rank)
        return Checkpoint.from_bytes(content.numpy().tobytes())

    def restore_random(self, found: Checkpoint) -> None:
        """Draw on as the interrupted processes would have; if they were more or fewer, anew, but always the same."""
        states, rank = found.tensors["random"], self._cluster.rank
        if len(states) != self._cluster.size:
            torch.manual_seed(self._job.seed + 7919 * found.update + rank)
            return
        torch.set_rng_state(states[rank].clone())
        if "random.cuda" in found.tensors and self._device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors["random.cuda"][rank].clone(), self._device)

    def clear(self) -> None:
        """Remove the checkpoints, unless they are to be kept: the result is written."""
        if self._cluster.leads and not self._job.settings.keep_at_end:
            try:
                self._checkpoints.clear()
            except OutputError as error:
                self._talk.warn(f"checkpoints that nobody needs any more stay: {error.what}")
