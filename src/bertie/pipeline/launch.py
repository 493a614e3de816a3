"""Whether this process is to become torchrun: read from what a platform sets, before anything slow is imported.

What each platform sets, and where that is written:

- torchrun, in its workers: TORCHELASTIC_RUN_ID. `torch/distributed/elastic/agent/server/local_elastic_agent.py`
- torchrun, for itself: PET_X in the place of its option --x. `env` in `torch/distributed/argparse_util.py`
- Kubeflow TrainJob: PET_NNODES, PET_NPROC_PER_NODE, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT.
  kubeflow/trainer, `pkg/runtime/framework/plugins/torch/torch.go`
- Kubeflow PyTorchJob, from 1.7: the same, and RANK (of the pod), WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
  kubeflow/trainer, pull requests 1840 and 1948
- PyTorchJob before 1.7: these four alone, for one process in each pod.
  kubeflow/training-operator, `pkg/controller.v1/pytorch/envvar.go`
- PyTorchJob with an elastic policy: PET_RDZV_ENDPOINT, PET_RDZV_BACKEND (c10d), PET_NNODES as MIN:MAX. Beside it,
  `elastic.go`
- SageMaker: `input/config/resourceconfig.json`, its hosts sorted by name. AWS's page
  "your-algorithms-training-algo-running-container"
- SageMaker's toolkits: SM_HOSTS, SM_CURRENT_HOST, SM_NETWORK_INTERFACE_NAME, SM_NUM_GPUS.
  aws/sagemaker-training-toolkit, `ENVIRONMENT_VARIABLES.md`
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from bertie.errors import UsageError

SAGEMAKER_PORT = 7777
"""Where the hosts of a SageMaker job meet: the port that its own toolkits use."""

SAGEMAKER_FOLDER = "/opt/ml"
"""The platform's folder; SAGEMAKER_BASE_DIR moves it, for its toolkits too."""

ELASTIC_VARIABLES = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""What elastic rendezvous needs of torch 2.13: else a host that comes back waits forever for the address of the others'
store, which is told only once. pytorch/pytorch issue 135712; `next_rendezvous` in
`torch/distributed/elastic/rendezvous/dynamic_rendezvous.py`.
"""

GRACE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "110"}
"""Seconds after SIGTERM in which processes may write their checkpoint before torchrun kills them; it gives 30 if nobody
says more. A machine that is taken away is gone after 30 to 120. `python -m torch.distributed.run --help`.
"""

ASKS_FOR_TORCHRUN = ("PET_NNODES", "PET_NPROC_PER_NODE", "PET_RDZV_ENDPOINT")


@dataclass(frozen=True)
class Launch:
    """How torchrun is to be started: its options, and the variables that it and its workers get."""

    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hosts:
    """The machines of a SageMaker job."""

    names: tuple[str, ...]  # sorted: the first is where they meet
    current: str
    interface: str  # of the network between them; empty if not told


def launch_here(environment: Mapping[str, str]) -> Launch | None:
    """Return how to become torchrun on this machine, or None if this process is to train as it is.

    Raises UsageError for settings of a platform that are half there or contradict each other.
    """
    path = Path(environment.get("SAGEMAKER_BASE_DIR") or SAGEMAKER_FOLDER) / "input" / "config" / "resourceconfig.json"
    return launch_arguments(environment, path.read_text(encoding="utf-8") if path.is_file() else None, count_gpus)


def launch_arguments(environment: Mapping[str, str], resources: str | None, gpus: Callable[[], int]) -> Launch | None:
    """Return how to become torchrun in this environment, or None to train in this process.

    `resources` is the content of SageMaker's resourceconfig.json, where there is one. `gpus` counts the GPUs of this
    machine; it is asked only when the answer matters, because that may take seconds. Raises UsageError.
    """
    if environment.get("TORCHELASTIC_RUN_ID"):
        return None
    # Kubeflow also sets RANK and WORLD_SIZE, but of the pod: torchrun gives each process its own.
    if any(environment.get(name) for name in ASKS_FOR_TORCHRUN):
        return _by_torchruns_variables(environment, gpus)
    if environment.get("RANK") and environment.get("WORLD_SIZE"):
        return None
    hosts = _sagemaker_hosts(environment, resources)
    return None if hosts is None else _by_hosts(hosts, environment, gpus)


def become_torchrun(
    launch: Launch, command: Sequence[str], environment: Mapping[str, str], program: Sequence[str] = ("-m", "bertie")
) -> NoReturn:
    """Put torchrun in the place of this process; each of its workers runs the program with the words of `command`."""
    sys.stdout.flush()
    sys.stderr.flush()
    # torchrun fills in ${local_rank} in the workers' arguments, and takes $$ for a dollar.
    words = [word.replace("$", "$$") for word in command]
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [sys.executable, "-m", "torch.distributed.run", *launch.arguments, *program, *words],
        {**GRACE, **environment, **launch.variables},
    )


def count_gpus() -> int:
    """Return how many GPUs PyTorch can use here; 0 where it is not installed."""
    try:
        import torch  # noqa: PLC0415 - seconds to import, and only some platforms leave the number open
    except ImportError:
        return 0
    return torch.cuda.device_count()


def _by_torchruns_variables(environment: Mapping[str, str], gpus: Callable[[], int]) -> Launch:
    """Leave it to torchrun to read its variables, once they are complete."""
    nodes = environment.get("PET_NNODES") or "1"
    match = re.fullmatch(r"(?:([1-9]\d*):)?([1-9]\d*)", nodes, re.ASCII)
    if match is None or int(match[1] or 1) > int(match[2]):
        raise _wrong("PET_NNODES", nodes, "a number of hosts, or MIN:MAX")
    elastic = (environment.get("PET_RDZV_BACKEND") or "static") != "static"
    meeting_place = environment.get("PET_RDZV_ENDPOINT") or (not elastic and environment.get("PET_MASTER_ADDR"))
    if int(match[2]) > 1 and not meeting_place:
        raise _missing("PET_RDZV_ENDPOINT" if elastic else "PET_MASTER_ADDR", f"PET_NNODES is {nodes}")
    if int(match[2]) > 1 and not elastic and not environment.get("PET_NODE_RANK"):
        raise _missing("PET_NODE_RANK", f"PET_NNODES is {nodes}")
    variables = {name: value for name, value in ELASTIC_VARIABLES.items() if elastic and not environment.get(name)}
    # For torchrun that is one process for each CPU, of one thread: here one with all of them is faster and smaller.
    if environment.get("PET_NPROC_PER_NODE") == "auto" and gpus() == 0:
        return Launch(("--nproc-per-node=1",), variables)
    return Launch((), variables)


def _sagemaker_hosts(environment: Mapping[str, str], resources: str | None) -> Hosts | None:
    """Read the hosts of a SageMaker job; None where there is no such job.

    The toolkits' variables go before the file: who starts this process may have narrowed them.
    """
    if environment.get("SM_HOSTS"):
        source, names = "SM_HOSTS", _parsed(environment["SM_HOSTS"], "SM_HOSTS")
        if not environment.get("SM_CURRENT_HOST"):
            raise _missing("SM_CURRENT_HOST", "SM_HOSTS is set")
        current: Any = environment["SM_CURRENT_HOST"]
        interface: Any = environment.get("SM_NETWORK_INTERFACE_NAME")
    elif resources is not None:
        source = "resourceconfig.json"
        facts = _parsed(resources, source)
        if not isinstance(facts, dict):
            raise _wrong(source, resources, "an object with hosts and current_host")
        names, current, interface = (facts.get(key) for key in ("hosts", "current_host", "network_interface_name"))
    else:
        return None
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise _wrong(source, names, "a list of host names")
    if current not in names:
        raise _wrong(f"the current host by {source}", current, f"one of {', '.join(sorted(names))}")
    return Hosts(tuple(sorted(set(names))), current, interface if isinstance(interface, str) else "")


def _by_hosts(hosts: Hosts, environment: Mapping[str, str], gpus: Callable[[], int]) -> Launch | None:
    """Return torchrun's options as SageMaker's own toolkits choose them; None for one host with one process."""
    if environment.get("OMPI_COMM_WORLD_SIZE", "1") != "1":
        raise UsageError(
            f"this is one of {environment['OMPI_COMM_WORLD_SIZE']} processes that MPI started.",
            expected="torchrun, or nothing, as the way in which the job distributes its work",
            hint="leave MPI out of the job's distribution settings: bertie train starts torchrun by itself",
        )
    told = environment.get("SM_NUM_GPUS")
    if told and not (told.isascii() and told.isdigit()):
        raise _wrong("SM_NUM_GPUS", told, "a whole number")
    processes = max(1, int(told) if told else gpus())
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    # Set by hand they go before: somebody knows better.
    variables = {name: hosts.interface for name in names if hosts.interface and not environment.get(name)}
    if len(hosts.names) == 1:
        return None if processes == 1 else Launch((f"--nproc-per-node={processes}",))
    arguments = (
        f"--nnodes={len(hosts.names)}",
        f"--nproc-per-node={processes}",
        f"--node-rank={hosts.names.index(hosts.current)}",
        f"--master-addr={hosts.names[0]}",
        f"--master-port={SAGEMAKER_PORT}",
    )
    return Launch(arguments, variables)


def _parsed(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _wrong(source, text, "JSON, as SageMaker writes it") from error


def _wrong(what: str, value: object, expected: str) -> UsageError:
    return UsageError(f"{what} is {str(value)[:200]!r}.", expected=expected)


def _missing(name: str, because: str) -> UsageError:
    return UsageError(
        f"{because}, but {name} is not set.",
        expected="all of the variables that a platform sets, or none of them",
        hint="unset the others to train in this process alone",
    )
