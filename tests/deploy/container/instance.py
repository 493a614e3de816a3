"""SageMaker's training instances for tests: machines of tests/hosts.py, each with an /opt/ml, a host name and a first
process of its own, as the platform starts a container on them. There is no image: files are those of this machine.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.deploy.aws.store import split_uri
from tests.conftest import make_rows, write_csv
from tests.environments import python_of
from tests.hosts import INTERFACE, Host

# In namespaces of its own (mounts, host name, processes); /opt is covered, so that /opt/ml needs no place on this disk.
ENTER = """
mount -t tmpfs tmpfs /opt && mkdir /opt/ml && mount --bind {ml} /opt/ml
mount --bind {hosts} /etc/hosts
hostname {name}
mount -t proc proc /proc
exec "$@"
"""

QUIET_PIP = {
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""What is asked for must be there: no test fetches anything."""


def python_with(folder: Path, *environments: str) -> Path:
    """Make a Python as AWS's images have one, with PyTorch and transformers, and return it. There is no bertie in it.

    To install all of that again would take minutes and gigabytes: it reads the packages of the project's own
    environment, all but bertie, and those of the named ones. What pip installs lands in the folder.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    there = [Path(sysconfig.get_path("purelib"))]
    there += [next((python_of(name).parent.parent / "lib").glob("python3*/site-packages")) for name in environments]
    links = folder / "packages"
    links.mkdir()
    for entry in there[0].iterdir():
        if "bertie" not in entry.name.lower() and entry.suffix != ".pth":
            (links / entry.name).symlink_to(entry)
    site = next((folder / "lib").glob("python3*/site-packages"))
    (site / "packages.pth").write_text("\n".join(map(str, [links, *there[1:]])) + "\n")
    programs = {"torchrun": "torch.distributed.run", "train": "sagemaker_training.cli.train", "pip3": "pip.__main__"}
    for name, module in programs.items():
        (folder / "bin" / name).write_text(
            f"#!{python}\nimport runpy\nrunpy.run_module({module!r}, run_name='__main__')\n"
        )
        (folder / "bin" / name).chmod(0o755)
    return python


@dataclass
class Instance:
    """One instance of a job: its /opt/ml."""

    host: Host
    name: str
    ml: Path
    hosts: Path

    @classmethod
    def prepare(
        cls, folder: Path, machines: Sequence[Host], index: int, hyperparameters: Mapping[str, str]
    ) -> Instance:
        """Lay out /opt/ml as the platform does, without data; the hosts are algo-1, algo-2 and so on."""
        ml, names = folder / f"ml-{index + 1}", [f"algo-{number + 1}" for number in range(len(machines))]
        for part in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
            (ml / part).mkdir(parents=True)
        group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.xlarge", "hosts": names}
        resources = {
            "current_host": names[index],
            "current_instance_type": "ml.m5.xlarge",
            "current_group_name": "homogeneousCluster",
            "hosts": names,
            "instance_groups": [group],
            "network_interface_name": INTERFACE,
            "topology": None,
        }
        config = ml / "input" / "config"
        (config / "resourceconfig.json").write_text(json.dumps(resources))
        (config / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters)))
        (config / "inputdataconfig.json").write_text("{}")
        hosts = folder / f"hosts-{index + 1}"
        lines = [
            "127.0.0.1 localhost",
            *(f"{machine.address} {name}" for machine, name in zip(machines, names, strict=True)),
        ]
        hosts.write_text("\n".join(lines) + "\n")
        return cls(machines[index], names[index], ml, hosts)

    def channel(self, name: str) -> Path:
        """Make a channel and return its folder."""
        config = self.ml / "input" / "config" / "inputdataconfig.json"
        kinds = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        config.write_text(json.dumps({**json.loads(config.read_text()), name: kinds}))
        folder = self.ml / "input" / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def give(self, base: Path, rows: int = 203) -> None:
        """Put learnable rows and a base model into their channels."""
        write_csv(self.channel("train") / "messages.csv", list(make_rows(rows)))
        shutil.copytree(base, self.channel("base"), dirs_exist_ok=True)

    def bring(self, s3: Any, request: Mapping[str, Any]) -> list[str]:
        """Bring the channels of a CreateTrainingJob out of S3, and return the command of its first process."""
        for channel in request["InputDataConfig"]:
            bucket, prefix = split_uri(channel["DataSource"]["S3DataSource"]["S3Uri"])
            folder = self.channel(channel["ChannelName"])
            for found in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
                path = folder / found["Key"].removeprefix(prefix).lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, found["Key"], str(path))
        algorithm = request["AlgorithmSpecification"]
        return [*algorithm["ContainerEntrypoint"], *algorithm["ContainerArguments"]]

    def leave(self, s3: Any, request: Mapping[str, Any]) -> None:
        """Put model and output into S3 as the platform does when a job has ended."""
        bucket, key = split_uri(f"{request['OutputDataConfig']['S3OutputPath']}/{request['TrainingJobName']}/output")
        for folder, name in ((self.ml / "model", "model.tar.gz"), (self.ml / "output" / "data", "output.tar.gz")):
            archive = self.ml.parent / name
            with tarfile.open(archive, "w:gz") as tar:
                tar.add(folder, ".")
            s3.upload_file(str(archive), bucket, f"{key}/{name}")

    def start(
        self, command: Sequence[object], log: Path, python: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the container's first process."""
        enter = ENTER.format(ml=shlex.quote(str(self.ml)), hosts=shlex.quote(str(self.hosts)), name=self.name)
        inside = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "bash", "-e", "-c", enter, "enter"]
        variables = {
            **QUIET_PIP,
            "PATH": f"{python.parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": "",
            "GLOO_SOCKET_IFNAME": "",
            "TRAINING_JOB_NAME": "job",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        return self.host.start([*inside, *command], log, variables)

    @property
    def failure(self) -> str:
        """What the job's description would say."""
        path = self.ml / "output" / "failure"
        return path.read_text() if path.is_file() else ""
