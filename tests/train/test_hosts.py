from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts import INTERFACE, ROOT, Host, elastic, hosts, wait_until
from tests.train.counting import state_after

STEPS = 60
WORKER = ROOT / "tests" / "train" / "counting.py"

Platform = Callable[[Path, list[Host], int], dict[str, str]]


@pytest.fixture
def two() -> Iterator[list[Host]]:
    with hosts(2) as machines:
        yield machines


def counting(folder: Path, host: Host, seconds: float = 0.1) -> list[object]:
    """The stand-in's command: a checkpoint on each host's own disk, and one place for the result."""
    return [WORKER, folder / f"{host.name}.json", folder / "result.json", STEPS, seconds]


def finished(processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    for process in processes:
        assert process.wait(timeout=60) == 0, log.read_text()


def test_hosts_meet_at_their_addresses_and_keep_their_own_loopback(two: list[Host], tmp_path: Path) -> None:
    listen = "import socket; s = socket.create_server(('', 5000)); print('up', flush=True); s.accept()"
    connect = "import socket; socket.create_connection(('{}', 5000), timeout=5)"
    log = tmp_path / "log"
    two[0].start([sys.executable, "-c", listen], log)
    wait_until("up", [log], 10)
    assert two[1].start([sys.executable, "-c", connect.format("127.0.0.1")], log).wait(timeout=20) != 0
    assert two[1].start([sys.executable, "-c", connect.format(two[0].address)], log).wait(timeout=20) == 0


def test_a_host_without_power_is_silent_and_empty(two: list[Host], tmp_path: Path) -> None:
    log = tmp_path / "log"
    # A process in a session of its own, as torchrun's workers are.
    two[1].start(["setsid", "--fork", "sleep", "600"], log)
    sleeping = two[1].start(["sleep", "600"], log)
    deadline = time.monotonic() + 20
    while len(two[1].pids()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # and they are what was asked for, not what starts it
    assert two[1].lose_power() == 2
    assert sleeping.returncode == -9
    connect = "import socket; socket.create_connection(('10.77.0.2', 5000), timeout=2)"
    assert two[0].start([sys.executable, "-c", connect], log).wait(timeout=20) != 0
    assert re.search("TimeoutError|No route to host", log.read_text())
    two[1].plug()
    # Nobody listens there, but somebody says so; the switch may need a moment.
    deadline = time.monotonic() + 20
    while "ConnectionRefusedError" not in log.read_text():
        assert time.monotonic() < deadline
        two[0].start([sys.executable, "-c", connect], log).wait(timeout=20)


def test_machines_leave_nothing_behind() -> None:
    with hosts(3) as machines:
        names = [machine.name for machine in machines]
        machines[0].start(["sleep", "600"], Path("/dev/null"))
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert all(name in listed for name in names)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(name in listed for name in names)
    assert machines[0].started[0].returncode == -9


@pytest.mark.slow
def test_a_job_goes_on_from_its_checkpoint_after_a_host_lost_its_power(two: list[Host], tmp_path: Path) -> None:
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    agents = [elastic(two, index, counting(tmp_path, two[index]), logs[index]) for index in (0, 1)]
    wait_until("is well on its way from 0", logs, 30)
    assert two[1].lose_power() >= 2
    time.sleep(1)
    assert agents[0].poll() is None
    two[1].plug()
    logs[1] = tmp_path / "2-again.log"
    agents[1] = elastic(two, 1, counting(tmp_path, two[1]), logs[1])
    wait_until("begins at step", [logs[1]], 40)
    finished(agents, logs[0])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["state"], result["size"]) == (state_after(STEPS), 2)
    assert result["first"] > 10
    # Who leads has written, the other has not.
    assert len(list(tmp_path.glob("bt*.json"))) == 1


@pytest.mark.slow
def test_a_job_may_go_on_with_fewer_hosts_and_take_one_in_again(two: list[Host], tmp_path: Path) -> None:
    logs = [tmp_path / "1.log", tmp_path / "2.log"]
    agents = [elastic(two, index, counting(tmp_path, two[index], 0.2), logs[index], nodes="1:2") for index in (0, 1)]
    wait_until("of 2 is well on its way from 0", logs, 30)
    two[1].kill()
    wait_until("process 0 of 1 begins at step", logs[:1], 30)
    assert "lost another process of this training" in logs[0].read_text()
    logs[1] = tmp_path / "2-again.log"
    agents[1] = elastic(two, 1, counting(tmp_path, two[1], 0.2), logs[1], nodes="1:2")
    wait_until("process 1 of 2 begins at step", [logs[1]], 30)
    finished(agents, logs[0])
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["state"], result["size"]) == (state_after(STEPS), 2)
    assert result["first"] > 10


ENTRY = """
import os, sys
from bertie.pipeline.launch import become_torchrun, launch_here
launch = launch_here(os.environ)
if launch is None:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
become_torchrun(launch, sys.argv[2:], os.environ, sys.argv[1:2])
"""


def sagemaker(folder: Path, machines: list[Host], index: int) -> dict[str, str]:
    facts = {
        "current_host": machines[index].address,
        "hosts": [machine.address for machine in machines],
        "network_interface_name": INTERFACE,
    }
    config = folder / f"ml{index}" / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps(facts))
    return {"SAGEMAKER_BASE_DIR": str(folder / f"ml{index}"), "GLOO_SOCKET_IFNAME": ""}


def train_job(folder: Path, machines: list[Host], index: int) -> dict[str, str]:
    names = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")
    return dict(zip(names, ("2", "1", str(index), machines[0].address, "29400"), strict=True))


def old_pytorch_job(folder: Path, machines: list[Host], index: int) -> dict[str, str]:
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return dict(zip(names, (str(index), "2", machines[0].address, "23456"), strict=True))


def pytorch_job(folder: Path, machines: list[Host], index: int) -> dict[str, str]:
    job = train_job(folder, machines, index) | old_pytorch_job(folder, machines, index)
    return job | {"PET_MASTER_PORT": "23456", "PET_NPROC_PER_NODE": "auto"}


@pytest.mark.slow
@pytest.mark.parametrize("platform", [sagemaker, train_job, pytorch_job, old_pytorch_job])
def test_the_hosts_of_a_platform_find_each_other(platform: Platform, two: list[Host], tmp_path: Path) -> None:
    log = tmp_path / "log"
    started = []
    for index, host in enumerate(two):
        command = [sys.executable, "-c", ENTRY, *counting(tmp_path, host, 0.0)]
        started.append(host.start(command, log, platform(tmp_path, two, index)))
    finished(started, log)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {"state": state_after(STEPS), "size": 2, "first": 0}
    # The first host leads.
    assert [path.stem for path in tmp_path.glob("bt*.json")] == [two[0].name]
