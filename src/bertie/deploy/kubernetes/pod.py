"""The container that serves, and the pod around it: the same for a Deployment and for KServe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bertie.bundle.manifest import Manifest
from bertie.config import ServeSettings
from bertie.deploy.container.__main__ import MODEL
from bertie.deploy.kubernetes.settings import KubernetesSettings
from bertie.serve.limits import GRACE_SECONDS

Object = dict[str, Any]
"""What becomes a document of YAML, or a part of one."""

PORT = 8080
USER = 65532
KEYS = "/etc/bertie/keys"
MIB = 2**20

SPARE_SECONDS = 5
"""Between the last answer and the kill, for the process to end by itself."""


@dataclass(frozen=True)
class Service:
    """A model, and how it is to be served."""

    name: str
    digest: str  # of the bundle's manifest
    manifest: Manifest
    settings: KubernetesSettings

    @property
    def labels(self) -> dict[str, str]:
        """What finds its objects."""
        return {"app.kubernetes.io/name": "bertie", "app.kubernetes.io/instance": self.name}

    def metadata(self, name: str = "") -> Object:
        """Return the metadata of an object."""
        return {"name": name or self.name, "labels": dict(self.labels)}

    @property
    def annotations(self) -> dict[str, str]:
        """What a pod says of its model."""
        return {"bertie/bundle-digest": f"sha256:{self.digest}"}


def memory(service: Service) -> str:
    """Return the memory of a pod, as Kubernetes writes it.

    The estimate: 512 MiB for Python and the engine, and the model three times, because an engine lays its weights out
    anew while the file is still mapped, and computes beside them.
    """
    if service.settings.memory:
        return service.settings.memory
    bytes_ = 512 * MIB + 3 * _model_bytes(service.manifest)
    return f"{math.ceil(bytes_ / (128 * MIB)) * 128}Mi"


def _model_bytes(manifest: Manifest) -> int:
    return sum(manifest.files[name].bytes for name in manifest.variant().files)


def grace_seconds(settings: KubernetesSettings) -> int:
    """Return how long a pod may take to end: until no request comes any more, and all are answered."""
    drain = float(ServeSettings.model_fields["drain_seconds"].default)
    return settings.pre_stop_seconds + math.ceil(drain) + GRACE_SECONDS + SPARE_SECONDS


def container(service: Service, name: str) -> Object:
    """Return the container."""
    settings = service.settings
    limits = {"cpu": settings.cpu, "memory": memory(service)}
    keys = [{"name": "BERTIE_SERVE_API_KEYS", "value": f"{KEYS}/keys"}] if settings.api_keys else []
    return {
        "name": name,
        "image": settings.image,
        "args": ["serve"],
        "env": [{"name": "BERTIE_SERVE_NAME", "value": service.name}, *keys],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # As much as is asked for, and no more: the threads of the model are counted from the limit.
        "resources": {"requests": dict(limits), "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path} | extra for name, path, extra, _ in volumes(service)],
    }


def probe(path: str, **numbers: int) -> Object:
    """Return a probe by HTTP. The paths that probes ask need no API key."""
    return {"httpGet": {"path": path, "port": "http"}, **numbers}


def volumes(service: Service) -> list[tuple[str, str, Object, Object]]:
    """Return name, place, options of the mount, and source of each volume."""
    settings = service.settings
    # What an engine compiles for this processor goes there, about once the size of the model.
    scratch = f"{math.ceil((64 * MIB + 2 * _model_bytes(service.manifest)) / (64 * MIB)) * 64}Mi"
    found: list[tuple[str, str, Object, Object]] = [("tmp", "/tmp", {}, {"emptyDir": {"sizeLimit": scratch}})]  # noqa: S108
    if settings.model_claim:
        claim = {"claimName": settings.model_claim, "readOnly": True}
        found.append(("model", MODEL, {"readOnly": True}, {"persistentVolumeClaim": claim}))
    if settings.api_keys:
        found.append(("keys", KEYS, {"readOnly": True}, {"secret": {"secretName": settings.api_keys}}))
    return found


def pod(service: Service, first: Object) -> Object:
    """Return the specification of a pod around its container."""
    settings = service.settings
    secrets = {"imagePullSecrets": [{"name": settings.pull_secret}]} if settings.pull_secret else {}
    return {
        **secrets,
        "automountServiceAccountToken": False,
        # Else a Service called bertie-serve would set BERTIE_SERVE_PORT, which is a setting of the server.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": grace_seconds(settings),
        "containers": [first],
        "volumes": [{"name": name} | source for name, _, _, source in volumes(service)],
    }
