"""Training with Kubeflow: a TrainJob, whose pods run `bertie train` under torchrun.

The runtime tells each pod its place by PET_NNODES, PET_NODE_RANK and the like, which `pipeline/launch.py` reads.
https://www.kubeflow.org/docs/components/trainer/
"""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bertie.config import TrainSettings
from bertie.deploy.kubernetes.pod import Object, Service
from bertie.errors import UsageError

RUNTIME = "torch-distributed"
NODE = "node"
"""The name that the runtime gives its job and its container."""

LOCAL = {"base", "checkpoints", "keep_at_end", "token_cache", "restarts"}
"""Settings of the first training that belong to the machine it ran on."""

MANAGER = "bertie/deploy"


class Place(NamedTuple):
    """A path on a PersistentVolumeClaim."""

    claim: str
    path: str

    @property
    def mount(self) -> str:
        """Where the claim is mounted."""
        return f"/mnt/{self.claim}"

    @property
    def inside(self) -> str:
        """The path in a pod."""
        return f"{self.mount}/{self.path}".rstrip("/")


def train_job(service: Service) -> Object:
    """Return the TrainJob. Raises UsageError for data that pods cannot mount."""
    settings = service.settings
    data = _place(settings.trainjob, "--trainjob")
    words, claims = ["train", data.inside, "--out", f"{data.mount}/runs/{service.name}", "--auto-resume"], [data]
    if settings.checkpoints.startswith("pvc:"):
        claims.append(kept := _place(settings.checkpoints, "--checkpoints"))
        words += ["--checkpoints", kept.inside]
    elif settings.checkpoints:
        words += ["--checkpoints", settings.checkpoints]
    words += [*learned(service), *shlex.split(settings.train)]
    amounts = {"cpu": settings.train_cpu, "memory": settings.train_memory}
    if settings.gpus:
        amounts["nvidia.com/gpu"] = str(settings.gpus)
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": service.metadata(f"{service.name}-train"),
        "spec": {
            "runtimeRef": {"name": RUNTIME, "kind": "ClusterTrainingRuntime", "apiGroup": "trainer.kubeflow.org"},
            "trainer": {
                "image": settings.training_image or settings.image,
                "command": ["bertie"],
                "args": words,
                "numNodes": settings.nodes,
                # One process for each GPU; without one, a single process with all the threads.
                "numProcPerNode": settings.gpus or 1,
                "resourcesPerNode": {"requests": dict(amounts), "limits": amounts},
            },
            "runtimePatches": [_mounted(claims)],
        },
    }


def learned(service: Service) -> list[str]:
    """Return the flags with which the model was trained, as far as they differ from today's defaults."""
    kept: dict[str, Any] = service.manifest.provenance.get("settings", {})
    base = service.manifest.provenance.get("base", {})
    words = [] if base.get("source") in {None, "folder"} else ["--base", str(kept.get("base", base.get("name")))]
    for name, field in TrainSettings.model_fields.items():
        value = kept.get(name, field.default)
        if name in LOCAL or value is None or value == field.default:
            continue
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def _place(uri: str, flag: str) -> Place:
    parts = urlsplit(uri)
    if parts.scheme != "pvc" or not parts.netloc or ".." in parts.path.split("/"):
        raise UsageError(
            f"{flag} cannot be {uri!r}.",
            expected="pvc://CLAIM/PATH: pods read data from a volume",
            hint="copy the data into a PersistentVolumeClaim, with kubectl cp from any pod that mounts it",
        )
    return Place(parts.netloc, parts.path.strip("/"))


def _mounted(places: list[Place]) -> Object:
    """Return the patch of the runtime that mounts each claim once, and a place for what Python keeps."""
    claims = sorted({place.claim: place for place in places}.items())
    volumes = [
        {"name": f"claim-{at}", "persistentVolumeClaim": {"claimName": one}} for at, (one, _) in enumerate(claims)
    ]
    mounts = [{"name": f"claim-{at}", "mountPath": place.mount} for at, (_, place) in enumerate(claims)]
    spec = {"volumes": volumes, "containers": [{"name": NODE, "volumeMounts": mounts}]}
    job = {"name": NODE, "template": {"spec": {"template": {"spec": spec}}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
