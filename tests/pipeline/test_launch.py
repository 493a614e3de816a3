from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import UsageError
from bertie.pipeline.launch import Launch, launch_arguments, launch_here
from bertie.version import __version__

WORKER = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"}
TRAIN_JOB = {
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "4",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29400",
}
PYTORCH_JOB = {**WORKER, **TRAIN_JOB, "PET_MASTER_ADDR": "job-master-0", "PET_NPROC_PER_NODE": "auto"}
ELASTIC = {"PET_RDZV_ENDPOINT": "job-worker-0:23456", "PET_RDZV_BACKEND": "c10d", "PET_NNODES": "1:3"}
SAGEMAKER = {
    "SM_HOSTS": '["algo-1", "algo-2"]',
    "SM_CURRENT_HOST": "algo-2",
    "SM_NETWORK_INTERFACE_NAME": "eth0",
    "SM_NUM_GPUS": "4",
    "MASTER_ADDR": "algo-1",
    "MASTER_PORT": "7777",
}


def no_gpus() -> int:
    return 0


def asked_in_vain() -> int:
    pytest.fail("counting the GPUs takes seconds, and their number does not matter here")


def resources(hosts: object, current: object = "algo-1", **more: object) -> str:
    """The file as SageMaker writes it, with all its keys."""
    group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.g5.xlarge", "hosts": hosts}
    facts = {
        "current_host": current,
        "current_instance_type": "ml.g5.xlarge",
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [group],
        "network_interface_name": "eth0",
        "topology": None,
    }
    return json.dumps(facts | more)


def options(launch: Launch | None, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What torchrun itself makes of a launch, in that environment."""
    from torch.distributed.run import parse_args

    assert launch is not None
    for name in [name for name in os.environ if name.startswith("PET_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = ["-m", "bertie", "train", "data.csv", "--out", "run"]
    found: dict[str, Any] = dict(vars(parse_args([*launch.arguments, *command])))  # type: ignore[no-untyped-call]  # torch's
    assert (found["module"], found["training_script"]) == (True, "bertie")
    assert found["training_script_args"] == ["train", "data.csv", "--out", "run"]
    return found


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOME": "/root", "OMP_NUM_THREADS": "1"},
        {"MASTER_ADDR": "algo-1", "MASTER_PORT": "7777"},
        {"PET_NNODES": "", "SM_HOSTS": ""},
        WORKER,  # a PyTorchJob before 1.7, or any other launcher of single processes
        WORKER | SAGEMAKER,
        {**WORKER, **TRAIN_JOB, "TORCHELASTIC_RUN_ID": "none"},  # a worker of torchrun inherits its variables
        {**ELASTIC, "TORCHELASTIC_RUN_ID": "job"},
        {**SAGEMAKER, "TORCHELASTIC_RUN_ID": "job"},
    ],
)
def test_nothing_is_started_where_nothing_asks_for_it(environment: dict[str, str]) -> None:
    assert launch_arguments(environment, None, asked_in_vain) is None


def test_a_train_job_is_left_to_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launch_arguments(TRAIN_JOB, None, asked_in_vain)
    assert launch == Launch()
    found = options(launch, TRAIN_JOB, monkeypatch)
    assert (found["nnodes"], found["nproc_per_node"], found["node_rank"]) == ("2", "4", 1)
    assert (found["master_addr"], found["master_port"]) == ("job-node-0-0.job", 29400)


def test_a_pytorch_jobs_rank_is_the_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    found = options(launch_arguments(PYTORCH_JOB, None, lambda: 8), PYTORCH_JOB, monkeypatch)
    assert (found["nnodes"], found["nproc_per_node"], found["node_rank"]) == ("2", "auto", 1)


def test_without_gpus_a_pod_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    found = options(launch_arguments(PYTORCH_JOB, None, no_gpus), PYTORCH_JOB, monkeypatch)
    assert found["nproc_per_node"] == "1"


@pytest.mark.parametrize("more", [{}, WORKER])
def test_an_elastic_pytorch_job_meets_at_its_endpoint(more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launch_arguments(ELASTIC | more, None, no_gpus)
    found = options(launch, ELASTIC | more, monkeypatch)
    assert (found["nnodes"], found["rdzv_backend"], found["rdzv_endpoint"]) == ("1:3", "c10d", "job-worker-0:23456")
    assert launch == Launch((), {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})
    by_hand = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "0"}
    assert launch_arguments(ELASTIC | more | by_hand, None, no_gpus) == Launch()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PET_NNODES": "two"}, "PET_NNODES is 'two'"),
        ({"PET_NNODES": "3:2"}, "PET_NNODES is '3:2'"),
        ({"PET_NNODES": "0"}, "PET_NNODES is '0'"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "0"}, "PET_MASTER_ADDR is not set"),
        ({"PET_NNODES": "2", "PET_MASTER_ADDR": "job-node-0"}, "PET_NODE_RANK is not set"),
        ({"PET_NNODES": "1:2", "PET_RDZV_BACKEND": "c10d"}, "PET_RDZV_ENDPOINT is not set"),
    ],
)
def test_half_set_variables_of_torchrun_are_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        launch_arguments(environment, None, no_gpus)


def test_sagemakers_variables_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launch_arguments(SAGEMAKER, None, asked_in_vain)
    found = options(launch, SAGEMAKER, monkeypatch)
    assert (found["nnodes"], found["nproc_per_node"], found["node_rank"]) == ("2", "4", 1)
    assert (found["master_addr"], found["master_port"], found["rdzv_backend"]) == ("algo-1", 7777, "static")
    assert launch is not None
    assert launch.variables == {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"}


def test_sagemakers_file_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "input" / "config" / "resourceconfig.json"
    file.parent.mkdir(parents=True)
    file.write_text(resources(["algo-2", "algo-1"], "algo-2"))
    place = {"SAGEMAKER_BASE_DIR": str(tmp_path)}
    monkeypatch.setattr("bertie.pipeline.launch.count_gpus", lambda: 4)
    assert launch_here(place) == launch_arguments(SAGEMAKER, None, no_gpus)
    assert launch_here({"SAGEMAKER_BASE_DIR": str(tmp_path / "elsewhere")}) is None


def test_one_sagemaker_host_needs_torchrun_only_for_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch_arguments({}, resources(["algo-1"]), no_gpus) is None
    assert launch_arguments({}, resources(["algo-1"]), lambda: 1) is None
    launch = launch_arguments({}, resources(["algo-1"]), lambda: 4)
    assert options(launch, {}, monkeypatch)["nproc_per_node"] == "4"


def test_an_interface_set_by_hand_stays() -> None:
    launch = launch_arguments(SAGEMAKER | {"NCCL_SOCKET_IFNAME": "eth1"}, None, no_gpus)
    assert launch is not None
    assert launch.variables == {"GLOO_SOCKET_IFNAME": "eth0"}
    silent = launch_arguments({}, resources(["algo-1", "algo-2"], network_interface_name=None), no_gpus)
    assert silent is not None
    assert silent.variables == {}


NAMES = st.lists(st.integers(1, 200).map("algo-{}".format), min_size=2, max_size=12, unique=True)


@given(NAMES, st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_hosts_of_a_job_all_come_to_the_same_plan(names: list[str], gpus: int, random: Any) -> None:
    plans = []
    for current in names:
        shuffled = random.sample(names, len(names))
        launch = launch_arguments({}, resources(shuffled, current), lambda: gpus)
        assert launch is not None
        by_variables = launch_arguments(
            {"SM_HOSTS": json.dumps(shuffled), "SM_CURRENT_HOST": current, "SM_NUM_GPUS": str(gpus)}, None, no_gpus
        )
        assert by_variables is not None
        assert by_variables.arguments == launch.arguments
        plans.append(dict(argument.split("=") for argument in launch.arguments))
    ranks = [int(plan.pop("--node-rank")) for plan in plans]
    assert sorted(ranks) == list(range(len(names)))
    assert all(plan == plans[0] for plan in plans)
    assert plans[0]["--master-addr"] == names[ranks.index(0)] == min(names)
    assert plans[0]["--nnodes"] == str(len(names))
    assert plans[0]["--nproc-per-node"] == str(max(1, gpus))


@pytest.mark.parametrize(
    ("environment", "file", "message"),
    [
        ({"SM_HOSTS": "algo-1"}, None, "SM_HOSTS is 'algo-1'"),
        ({"SM_HOSTS": '["algo-1"]'}, None, "SM_CURRENT_HOST is not set"),
        ({**SAGEMAKER, "SM_CURRENT_HOST": "algo-3"}, None, "the current host by SM_HOSTS is 'algo-3'"),
        ({**SAGEMAKER, "SM_NUM_GPUS": "four"}, None, "SM_NUM_GPUS is 'four'"),
        ({**SAGEMAKER, "OMPI_COMM_WORLD_SIZE": "8"}, None, "one of 8 processes that MPI started"),
        ({}, "{", "resourceconfig.json is '{'"),
        ({}, "[]", r"resourceconfig.json is '\[\]'"),
        ({}, resources([]), r"resourceconfig.json is '\[\]'"),
        ({}, resources("algo-1"), "resourceconfig.json is 'algo-1'"),
        ({}, resources(["algo-1", 2]), "resourceconfig.json is"),
        ({}, resources(["algo-1", "algo-2"], None), "the current host by resourceconfig.json is 'None'"),
    ],
)
def test_what_sagemaker_says_must_fit_together(environment: dict[str, str], file: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        launch_arguments(environment, file, no_gpus)


def test_deciding_imports_nothing_slow() -> None:
    program = (
        "import sys; from bertie.pipeline.launch import launch_arguments as f\n"
        f"f({SAGEMAKER!r}, None, None); f({TRAIN_JOB!r}, None, None); f({{}}, None, None)\n"
        "heavy = {'numpy', 'torch', 'transformers', 'onnxruntime', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


BECOME = """
import os, sys
from bertie.pipeline.launch import Launch, become_torchrun
become_torchrun(Launch(("--nproc-per-node=2",), {"MARK": "here"}), sys.argv[2:], os.environ, sys.argv[1].split())
"""


def become(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BECOME, program, *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_torchrun_takes_the_place_of_the_process(tmp_path: Path) -> None:
    done = become("-m bertie", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"bertie {__version__}\n" * 2


def test_the_workers_get_the_words_and_variables_as_they_were(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, pathlib, sys, json\n"
        "facts = [sys.argv[1:], os.environ['MARK'], os.environ['WORLD_SIZE']]\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(json.dumps(facts))\n"
    )
    words = ["--text-column", "où est $$ ?", "${local_rank}", "$local_rank", "--", "", "a  b", "-m", "--nnodes=9"]
    done = become(str(worker), *words)
    assert done.returncode == 0, done.stderr
    assert [json.loads((tmp_path / rank).read_text()) for rank in "01"] == [[words, "here", "2"]] * 2


def test_a_workers_failure_is_torchruns(tmp_path: Path) -> None:
    done = become("-m bertie", "evaluate", str(tmp_path / "$$nowhere"), str(tmp_path / "data.csv"))
    assert done.returncode == 1
    assert "$$nowhere" in done.stderr
