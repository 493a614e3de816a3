"""The processes that train one model together: who they are, how they meet, and the few things they exchange.

Alone, every method gives back what it was given, so that the training loop is the same code for one process and for
many. Nothing is pickled: what travels is numbers and bytes.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # public, but not listed
from torch.distributed.rendezvous import rendezvous

from bertie.errors import TrainingError, UsageError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others, to meet and in each exchange, before it takes them for lost.

More than the longest time that one of them works alone (writing a checkpoint, a slow start of a host). A peer that
ended is noticed at once, by its closed connections; only a silent one (no power, no network) takes this long.
"""

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""By device: on GPUs gradients travel by NCCL, and the small things, which are in main memory anyway, by gloo."""

SHOWN = 60
"""Characters of a value on which processes disagree that an error shows."""


@dataclass(frozen=True)
class Cluster:
    """One process's place among all that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this host: the number of its GPU
    address: str = ""  # host:port where they meet; unused when alone

    @classmethod
    def alone(cls) -> Cluster:
        """Return the cluster of a single process."""
        return cls()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Cluster:
        """Read RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; without the first two a process is alone.

        MASTER_ADDR and MASTER_PORT by themselves mean nothing: SageMaker's training toolkit always sets them. Raises
        UsageError for variables that are half set or contradict each other. Source: the environment that
        `torch.distributed.run` documents; Kubeflow's training operator sets the same, without LOCAL_RANK.
        """
        named = {name: environment[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if environment.get(name)}
        if not named:
            return cls()
        for name in ("RANK", "WORLD_SIZE"):
            if name not in named:
                raise _unset(name, next(iter(named)))
        size = _number(named, "WORLD_SIZE", 1, 2**31)
        rank = _number(named, "RANK", 0, size)
        local_rank = _number({"LOCAL_RANK": "0"} | named, "LOCAL_RANK", 0, rank + 1)
        if size == 1:
            return cls()
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not environment.get(name):
                raise _unset(name, "WORLD_SIZE")
        host, port = environment["MASTER_ADDR"], _number(environment, "MASTER_PORT", 1, 2**16)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return cls(rank, size, local_rank, f"{host}:{port}")

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum_up(self, tensor: Tensor) -> None:
        """Replace a tensor, in place, by its sum over all processes; all get the same bits.

        Raises TrainingError if another process is lost, as every method below does.
        """
        if self.size > 1:
            with self._together():
                dist.all_reduce(tensor)

    def broadcast(self, *tensors: Tensor, source: int = 0) -> None:
        """Overwrite the tensors, in place, with those of one process."""
        if self.size > 1:
            with self._together():
                for tensor in tensors:
                    dist.broadcast(tensor, source)

    def gather(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """Return everybody's rows, by rank. They may differ in number, zero too, but not in type and further shape."""
        if self.size == 1:
            return [rows]
        content = rows.tobytes()
        sizes = self._numbers(len(content))
        flat = torch.zeros(max(sizes), dtype=torch.uint8)
        flat[: len(content)] = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        everybody = [torch.empty_like(flat) for _ in range(self.size)]
        if max(sizes):
            with self._together():
                dist.all_gather(everybody, flat)
        return [
            one.numpy()[:size].view(rows.dtype).reshape(-1, *rows.shape[1:])
            for one, size in zip(everybody, sizes, strict=True)
        ]

    def agree(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return any(self._numbers(int(flag)))

    def newest(self, step: int) -> tuple[int, int]:
        """Return the rank of who has got furthest, the first of them, and how far; `step` is how far this one got."""
        steps = self._numbers(step)
        return steps.index(max(steps)), max(steps)

    def same(self, value: str, what: str) -> None:
        """Raise TrainingError, in every process, unless all have the same value of `what`, as `the training data`."""
        values = [one.tobytes().decode() for one in self.gather(np.frombuffer(value.encode(), np.uint8))]
        others = [rank for rank, other in enumerate(values) if other != values[0]]
        if others:
            raise TrainingError(
                f"the {self.size} processes of this training do not have the same {what}: process {others[0]} has "
                f"{values[others[0]][:SHOWN]!r}, process 0 has {values[0][:SHOWN]!r}.",
                expected="the same files, settings and version on every host",
                hint="copy the data to every host again, and start every host with the same command",
            )

    def _numbers(self, number: int) -> list[int]:
        """Return everybody's number, by rank."""
        if self.size == 1:
            return [number]
        everybody = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._together():
            dist.all_gather(everybody, torch.tensor([number]))
        return [int(one) for one in everybody]

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turn what the backend says when a peer is gone into a sentence."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # gloo has no class of its own for it
            raise TrainingError(
                f"process {self.rank} of {self.size} lost another process of this training: that one ended, or its "
                "host or the network did.",
                expected=f"PyTorch reported: {_reason(error)}",
                hint="the error of the process that ended first is the cause; `torchrun --max-restarts 3` starts all "
                "of them again from the last checkpoint",
            ) from error


@contextmanager
def join(cluster: Cluster, device_type: str, patience: timedelta = PATIENCE) -> Iterator[None]:
    """Meet the other processes; leave them when the block ends. Alone, do nothing.

    `device_type` is `cpu` or `cuda`. Raises TrainingError if they do not all come in time, and UsageError if this
    host has fewer GPUs than processes.
    """
    if cluster.size == 1:
        yield
        return
    if device_type == "cuda":
        _take_gpu(cluster)
    hook = sys.excepthook  # torch puts its own in its place, and leaves it there
    try:
        _meet(cluster, device_type, patience)
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        sys.excepthook = hook


def _meet(cluster: Cluster, device_type: str, patience: timedelta) -> None:
    try:
        url = f"tcp://{cluster.address}"
        store, rank, size = next(rendezvous(url, cluster.rank, cluster.size, timeout=patience))
        store.set_timeout(patience)
        store = PrefixStore(_fresh_name(store, cluster, patience), store)
        dist.init_process_group(BACKENDS[device_type], store=store, rank=rank, world_size=size, timeout=patience)
    except (RuntimeError, TimeoutError) as error:
        raise TrainingError(
            f"process {cluster.rank} could not meet the other {cluster.size - 1} of this training at "
            f"{cluster.address}.",
            expected=f"PyTorch reported: {_reason(error)}",
            hint="every process must be started, with the same MASTER_ADDR and MASTER_PORT; with several networks on "
            "a host, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the interface to use",
        ) from error


def _fresh_name(store: Store, cluster: Cluster, patience: timedelta) -> str:
    """Return a name that all processes of this start share and no earlier start had.

    torchrun keeps one store through all restarts of a job, and under the same keys stand the addresses of the
    processes of the start before: who reads them too early waits for the dead (torch 2.13; pytorch/pytorch issue
    135712). Everybody asks under a name made up just now, so only a process that is alive can have answered.
    """
    mine = uuid.uuid4().hex
    if not cluster.leads:
        store.set(f"asks/{cluster.rank}", mine)
        name = store.get(f"answer/{mine}").decode()
        store.set(f"knows/{name}/{cluster.rank}", "")
        return name
    missing, end = set(range(1, cluster.size)), time.monotonic() + patience.total_seconds()
    while missing:
        # A question may be an old one: it is asked again and again until the answer was understood.
        for rank in [rank for rank in missing if store.check([f"asks/{rank}"])]:
            store.set(f"answer/{store.get(f'asks/{rank}').decode()}", mine)
        missing = {rank for rank in missing if not store.check([f"knows/{mine}/{rank}"])}
        if time.monotonic() > end:
            raise TimeoutError(f"process {min(missing)} did not come within {patience}")
        time.sleep(0.02)
    return mine


def _take_gpu(cluster: Cluster) -> None:
    count = torch.cuda.device_count()
    if cluster.local_rank >= count:
        raise UsageError(
            f"LOCAL_RANK is {cluster.local_rank}, but this host has {count} GPUs.",
            expected="one process for each GPU",
            hint=f"torchrun --nproc-per-node {count}",
        )
    torch.cuda.set_device(cluster.local_rank)


def _number(environment: Mapping[str, str], name: str, low: int, end: int) -> int:
    """Return a whole number at least `low` and below `end`."""
    value = environment[name]
    if not (value.isascii() and value.isdigit() and low <= int(value) < end):
        raise UsageError(
            f"the environment variable {name} is {value!r}.",
            expected=f"a whole number from {low} to {end - 1}",
            hint="start the processes with torchrun, or unset RANK and WORLD_SIZE to train in this process alone",
        )
    return int(value)


def _unset(name: str, other: str) -> UsageError:
    return UsageError(
        f"the environment variable {other} is set, but {name} is not.",
        expected="RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT together, as torchrun sets them",
        hint=f"start the processes with torchrun, or unset {other} to train in this process alone",
    )


def _reason(error: Exception) -> str:
    """Return the first sentence of what a backend says, without its source line."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.split("] ", 1)[1] if text.startswith("[/") and "] " in text else text
    return text.split(". ", 1)[0][:200]
