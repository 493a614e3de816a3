from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import UsageError
from bertie.train.cluster import Cluster, join

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "algo-1", "MASTER_PORT": "29500"}

PROGRAM = """
import json, os, signal, sys, time, warnings
warnings.simplefilter("error")
from datetime import timedelta
import numpy as np, torch
from bertie.errors import BertieError
from bertie.train.cluster import Cluster, join
cluster = Cluster.from_environment(os.environ)
seen = {}
try:
    with join(cluster, "cpu", timedelta(seconds=float(os.environ["PATIENCE"]))):
        exec(os.environ["BODY"])
except BertieError as error:
    seen["error"] = str(error)
    print(json.dumps(seen))
    sys.exit(error.exit_code)
print(json.dumps(seen))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts one process of several; those still there at the end of a test are killed."""
    started = []

    def start(rank: int, size: int, body: str, port: int, patience: float = 60.0) -> subprocess.Popen[str]:
        place = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables = {name: str(value) for name, value in (place | {"PATIENCE": patience}).items()}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **variables, "BODY": body},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            process.communicate()


def seen_by(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    # What PyTorch itself logs of a failure may stand there; a traceback may not, and after success nothing may.
    assert "Traceback" not in err
    assert code or err == ""
    seen: dict[str, Any] = json.loads(out)
    return seen


def together(start: Start, size: int, body: str, code: int = 0) -> list[dict[str, Any]]:
    """Run the lines of `body` in `size` processes that meet on this machine; return what each put into `seen`."""
    port = free_port()
    return [seen_by(process, code) for process in [start(rank, size, body, port) for rank in range(size)]]


def test_a_process_without_others_gets_back_what_it_gave() -> None:
    alone = Cluster.alone()
    tensor, rows = torch.arange(3.0), np.arange(4.0).reshape(2, 2)
    with join(alone, "cpu"):
        alone.sum_up(tensor)
        alone.broadcast(tensor)
        assert tensor.tolist() == [0, 1, 2]
        assert [one.tolist() for one in alone.gather(rows)] == [rows.tolist()]
        assert (alone.agree(True), alone.agree(False)) == (True, False)
        assert alone.newest(7) == (0, 7)
        alone.same("x", "data")
    assert alone.leads
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MASTER_ADDR": "algo-1", "MASTER_PORT": "7777"},  # what SageMaker's toolkit sets in every container
        {"RANK": "", "WORLD_SIZE": ""},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
    ],
)
def test_a_process_is_alone_unless_it_is_told_of_others(environment: dict[str, str]) -> None:
    assert Cluster.from_environment(environment) == Cluster.alone()


def test_torchruns_variables_are_read() -> None:
    assert Cluster.from_environment(TORCHRUN) == Cluster(3, 4, 1, "algo-1:29500")
    assert not Cluster.from_environment(TORCHRUN).leads
    pod = {name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"}
    assert Cluster.from_environment(pod).local_rank == 0
    assert Cluster.from_environment(TORCHRUN | {"MASTER_ADDR": "fe80::1"}).address == "[fe80::1]:29500"


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_a_missing_variable_is_named(name: str) -> None:
    environment = {other: value for other, value in TORCHRUN.items() if other != name}
    with pytest.raises(UsageError, match=f"is set, but {name} is not"):
        Cluster.from_environment(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "4"),
        ("RANK", "-1"),
        ("RANK", "one"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "2.0"),
        ("WORLD_SIZE", "²"),
        ("LOCAL_RANK", "4"),
        ("MASTER_PORT", "0"),
        ("MASTER_PORT", "65536"),
    ],
)
def test_an_impossible_value_is_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is '{value}'"):
        Cluster.from_environment(TORCHRUN | {name: value})


@given(st.dictionaries(st.sampled_from(sorted(TORCHRUN)), st.sampled_from(["", "0", "1", "2", "x", "70000"])))
def test_any_environment_gives_a_possible_place_or_a_usage_error(environment: Mapping[str, str]) -> None:
    try:
        cluster = Cluster.from_environment(environment)
    except UsageError:
        return
    assert 0 <= cluster.local_rank <= cluster.rank < cluster.size
    assert bool(cluster.address) == (cluster.size > 1)


EXCHANGE = """
ranks = torch.arange(5.0) + cluster.rank / 3
cluster.sum_up(ranks)
seen["sum"], seen["bits"] = ranks.tolist(), ranks.numpy().tobytes().hex()
seen["float"] = [one.tolist() for one in cluster.gather(np.full((cluster.rank, 2), cluster.rank, np.float32))]
seen["int"] = [one.tolist() for one in cluster.gather(np.arange(3 - cluster.rank))]
nothing = cluster.gather(np.zeros((0, 2), np.float64))
seen["nothing"] = [(one.shape, str(one.dtype)) for one in nothing]
seen["flags"] = [cluster.agree(cluster.rank == 1), cluster.agree(False), cluster.agree(True)]
weights, steps = torch.full((2, 2), float(cluster.rank)), torch.tensor([cluster.rank])
cluster.broadcast(weights, steps, source=1)
seen["sent"] = [weights.tolist(), steps.tolist()]
seen["newest"] = [cluster.newest([4, 9, 9][cluster.rank]), cluster.newest(0)]
cluster.same("où", "data")
seen["leads"] = cluster.leads
"""


@pytest.mark.parametrize("size", [2, 3])
def test_processes_exchange_what_they_have(start: Start, size: int) -> None:
    seen = together(start, size, EXCHANGE)
    assert [one.pop("leads") for one in seen] == [True, *[False] * (size - 1)]
    assert all(one == seen[0] for one in seen)  # among it the bits of the sum
    one = seen[0]
    assert one["sum"] == pytest.approx([size * number + sum(range(size)) / 3 for number in range(5)])
    assert one["float"] == [[[rank, rank]] * rank for rank in range(size)]
    assert one["int"] == [list(range(3 - rank)) for rank in range(size)]
    assert one["nothing"] == [[[0, 2], "float64"]] * size
    assert one["flags"] == [True, False, True]
    assert one["sent"] == [[[1, 1], [1, 1]], [1]]
    assert one["newest"] == [[1, 9], [0, 0]]


def test_processes_that_differ_all_hear_of_it(start: Start) -> None:
    seen = together(start, 3, "cluster.same('abc' if cluster.rank < 2 else 'abd', 'training data')", code=8)
    for one in seen:
        assert "do not have the same training data: process 2 has 'abd', process 0 has 'abc'" in one["error"]


def dying(moment: str, victim: int = 1) -> str:
    return f"{moment}\nif cluster.rank == {victim}: os.kill(os.getpid(), signal.SIGKILL)\ncluster.agree(False)"


@pytest.mark.parametrize(
    ("moment", "victim"), [("pass", 1), ("cluster.agree(False)", 0), ("cluster.sum_up(torch.zeros(100_000))", 2)]
)
def test_a_lost_process_ends_the_others_with_a_sentence(start: Start, moment: str, victim: int) -> None:
    port = free_port()
    started = time.monotonic()
    processes = [start(rank, 3, dying(moment, victim), port) for rank in range(3)]
    for rank in {0, 1, 2} - {victim}:
        error = seen_by(processes[rank], code=8)["error"]
        assert f"process {rank} of 3 lost another process" in error
        assert "last checkpoint" in error
    assert time.monotonic() - started < 30  # not the minute of patience


def test_who_does_not_come_is_waited_for_no_longer_than_was_said(start: Start) -> None:
    port = free_port()
    processes = [start(rank, 3, "", port, patience=4) for rank in (0, 1)]
    for rank, process in enumerate(processes):
        assert f"process {rank} could not meet the other 2 of this training" in seen_by(process, code=8)["error"]


def test_what_an_earlier_start_left_in_the_store_misleads_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One store for several starts, as torchrun keeps it: the first dies, the second meets."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not listed

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    first = [start(rank, 2, dying("cluster.agree(False)"), store.port) for rank in range(2)]
    seen_by(first[0], code=8)
    first[1].communicate()
    seen = []
    for rank in range(2):
        seen.append(start(rank, 2, "seen['newest'] = cluster.newest(cluster.rank)", store.port, patience=20))
        time.sleep(2)  # long enough to read what the dead have left there
    assert [seen_by(one) for one in seen] == [{"newest": [1, 1]}] * 2


def test_a_host_with_too_few_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    too_many = join(Cluster(1, 2, 1, "127.0.0.1:1"), "cuda")
    with pytest.raises(UsageError, match="LOCAL_RANK is 1, but this host has 1 GPUs"), too_many:
        pytest.fail("the block must not begin")
