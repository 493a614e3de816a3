"""The command of a TrainJob that was written, run as its pods would: two machines, and one claim that both mount."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import bertie
from bertie.deploy.kubernetes.deploy import deploy_kubernetes
from bertie.deploy.kubernetes.settings import KubernetesSettings
from bertie.talk import Talk
from tests.conftest import make_rows, write_csv
from tests.hosts import Host, hosts

LEADER = "tone-train-node-0-0.tone-train"
"""The first pod's name, which Kubeflow sets as PET_MASTER_ADDR."""

# The claim where the pod mounts it, in a mount namespace of its own.
ENTER = """
mount -t tmpfs tmpfs /mnt && mkdir /mnt/data && mount --bind {claim} /mnt/data
mount --bind {names} /etc/hosts
exec "$@"
"""


def written(folder: Path, model: Path, learning: str) -> dict[str, Any]:
    """Write the TrainJob as a user does, and return its trainer."""
    given = {"image": "registry.example/tone:1", "name": "tone", "nodes": 2, "trainjob": "pvc://data/messages.csv"}
    settings = KubernetesSettings.load(given | {"train": learning}, environment={})
    deploy_kubernetes(model, folder, settings, Talk(quiet=True))
    job = yaml.safe_load((folder / "train-job.yaml").read_text(encoding="utf-8"))
    trainer: dict[str, Any] = job["spec"]["trainer"]
    return trainer


def start(host: Host, rank: int, trainer: dict[str, Any], claim: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a pod's container with what Kubeflow's runtime sets for it."""
    names = claim.with_name("names")
    names.write_text(f"127.0.0.1 localhost\n10.77.0.1 {LEADER}\n")
    variables = {
        "PET_NNODES": str(trainer["numNodes"]),
        "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": LEADER,
        "PET_MASTER_PORT": "29500",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
        "OMP_NUM_THREADS": "1",
    }
    enter = ENTER.format(claim=shlex.quote(str(claim)), names=shlex.quote(str(names)))
    inside = ["unshare", "--mount", "bash", "-e", "-c", enter, "enter"]
    return host.start([*inside, *trainer["command"], *trainer["args"]], log, variables)


@pytest.mark.slow
def test_two_pods_train_the_successor_and_go_on_when_one_was_lost(
    tiny_bundle: Path, tiny_base: Path, tmp_path: Path
) -> None:
    learning = "--base /mnt/data/base --max-passes 40 --patience 40 --precision fp32 --no-freeze-embeddings"
    trainer = written(tmp_path / "manifests", tiny_bundle, f"{learning} --checkpoint-updates 10")
    claim = tmp_path / "claim"
    run = claim / "runs" / "tone"
    claim.mkdir()
    write_csv(claim / "messages.csv", list(make_rows(203)))
    shutil.copytree(tiny_base, claim / "base")
    with hosts(2) as machines:
        logs = [tmp_path / f"{number}.log" for number in range(4)]
        pods = [start(machines[rank], rank, trainer, claim, logs[rank]) for rank in (0, 1)]
        deadline = time.monotonic() + 90
        while not list(run.glob("checkpoints/step-*/state.json")):
            assert time.monotonic() < deadline, [log.read_text() for log in logs[:2]]
            assert pods[0].poll() is None, logs[0].read_text()
            time.sleep(0.05)
        machines[1].kill()
        assert pods[0].wait(timeout=60) != 0, "the job learns of it, and Kubeflow starts both again"
        pods = [start(machines[rank], rank, trainer, claim, logs[2 + rank]) for rank in (0, 1)]
        for pod in pods:
            assert pod.wait(timeout=150) == 0, [log.read_text()[-4000:] for log in logs[2:]]
    assert "going on after update" in logs[2].read_text()
    assert bertie.load(run).labels == ("delivery", "praise")
    assert json.loads((run / "training.json").read_text())["passes"] == 40
    assert "pass 40: validation" in logs[2].read_text()
    assert "validation" not in logs[3].read_text().replace("validation,", ""), "the first pod alone speaks"
