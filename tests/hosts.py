"""Machines for tests: network namespaces with addresses of their own, joined by a switch, that can lose their power.

They share this machine's processors and files. Nothing outside them is reached, and nothing outside is changed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bertie.pipeline.launch import ELASTIC_VARIABLES

ROOT = Path(__file__).parents[1]

MUST_RUN = "BERTIE_TEST_HOSTS"
"""Set to 1, as CI does: then it is an error, not a reason to skip, if namespaces cannot be made."""

INTERFACE = "eth0"

PORT = 29400


@dataclass
class Host:
    """One machine."""

    name: str  # of its namespace, different in every test run
    address: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command on this machine, its output appended to a file."""
        variables = {"GLOO_SOCKET_IFNAME": INTERFACE, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **(environment or {})}
        with log.open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *map(str, command)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
            )
        self.started.append(process)
        return process

    def pids(self) -> list[int]:
        """Return the processes on this machine."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.name).split()]

    def kill(self) -> int:
        """Kill every process on this machine, those too that left their parents; return how many."""
        killed = 0
        # What was started a moment ago is here only after a while.
        while (pids := self.pids()) or any(process.poll() is None for process in self.started):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.02)
        return killed

    def unplug(self) -> None:
        """Take its network away: the other hosts hear nothing any more, not even that a connection is closed."""
        _run("ip", "-n", self.name, "link", "set", INTERFACE, "down")

    def plug(self) -> None:
        """Give it its network back."""
        _run("ip", "-n", self.name, "link", "set", INTERFACE, "up")

    def lose_power(self) -> int:
        """End everything at once, without a word to the others; return how many processes there were."""
        self.unplug()
        return self.kill()


@contextlib.contextmanager
def hosts(count: int = 2) -> Iterator[list[Host]]:
    """Make some machines, with addresses from 10.77.0.1 on. Skips where network namespaces may not be made."""
    tag = f"bt{uuid.uuid4().hex[:8]}"
    machines = [Host(f"{tag}-{number}", f"10.77.0.{number}") for number in range(1, count + 1)]
    switch = f"{tag}-switch"
    made: list[str] = []
    try:
        try:
            _build(machines, switch, made)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = f"network namespaces cannot be made here: {getattr(error, 'stderr', None) or error}"
            if os.environ.get(MUST_RUN) == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        yield machines
    finally:
        for machine in machines:
            if machine.name in made:
                machine.kill()
        for name in made:
            _run("ip", "netns", "del", name)


def elastic(
    machines: Sequence[Host],
    index: int,
    command: Sequence[object],
    log: Path,
    *,
    nodes: str = "",
    processes: int = 1,
    max_restarts: int = 3,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start torchrun on a machine, with elastic rendezvous at the first of them.

    `command` is a script with its arguments, or begins with `-m`. `nodes` is torchrun's --nnodes: all of the machines
    if not given. A host that is silent for three seconds counts as gone (usual: fifteen).
    """
    here = machines[index]
    conf = {
        "is_host": int(index == 0),  # torchrun would compare the address with this machine's name
        "keep_alive_interval": 1,
        "keep_alive_max_attempt": 3,
        "last_call_timeout": 1,
    }
    options = [
        f"--nnodes={nodes or len(machines)}",
        f"--nproc-per-node={processes}",
        f"--max-restarts={max_restarts}",
        "--rdzv-id=test",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={machines[0].address}:{PORT}",
        f"--rdzv-conf={','.join(f'{key}={value}' for key, value in conf.items())}",
        f"--local-addr={here.address}",
    ]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *command]
    return here.start(command, log, {**ELASTIC_VARIABLES, **(environment or {})})


def wait_until(happened: str, logs: Sequence[Path], seconds: float) -> float:
    """Wait until a text stands in each of the logs; return how long that took. Fails, showing them, if it does not."""
    started = time.monotonic()
    while not all(log.is_file() and happened in log.read_text(errors="replace") for log in logs):
        if time.monotonic() - started > seconds:
            shown = "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-4000:]}" for log in logs)
            pytest.fail(f"{happened!r} did not happen within {seconds} s\n{shown}")
        time.sleep(0.05)
    return time.monotonic() - started


def _build(machines: Sequence[Host], switch: str, made: list[str]) -> None:
    for name in (switch, *(machine.name for machine in machines)):
        _run("ip", "netns", "add", name)
        made.append(name)
        _run("ip", "-n", name, "link", "set", "lo", "up")
    _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
    _run("ip", "-n", switch, "link", "set", "bridge", "up")
    for number, machine in enumerate(machines):
        cable = ["type", "veth", "peer", "name", INTERFACE, "netns", machine.name]
        _run("ip", "-n", switch, "link", "add", f"port{number}", *cable)
        _run("ip", "-n", switch, "link", "set", f"port{number}", "master", "bridge", "up")
        _run("ip", "-n", machine.name, "address", "add", f"{machine.address}/24", "dev", INTERFACE)
        machine.plug()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
