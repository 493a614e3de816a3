"""What `bertie deploy kubernetes` does: a model and settings become files that kubectl takes, a kustomize base."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from bertie import disk
from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.read import opened
from bertie.deploy.kubernetes import kserve, serving, training
from bertie.deploy.kubernetes.pod import Object, Service
from bertie.deploy.kubernetes.settings import KubernetesSettings
from bertie.deploy.naming import name_of
from bertie.errors import UsageError, need
from bertie.talk import Talk

ABOUT = {
    "kustomization.yaml": "kubectl apply -k FOLDER. What differs in your cluster belongs into an overlay, not in here.",
    "deployment.yaml": "The server. Its number of pods is the autoscaler's business where there is one.",
    "service.yaml": "Port 80 inside the cluster.",
    "autoscaler.yaml": "Needs the metric of prometheus-adapter.yaml; without it, the CPU alone counts.",
    "budget.yaml": "At most one pod is taken away at a time.",
    "network-policy.yaml": "Pods of this namespace and Prometheus may ask; the server itself asks nobody.",
    "monitor.yaml": "Needs the Prometheus operator, and a Prometheus that selects this object.",
    "prometheus-adapter.yaml": "Values for the chart of prometheus-adapter. It is not part of the kustomization.",
    "inference-service.yaml": "For KServe. Models are asked at /v2/models/NAME/infer, or as any client of Bertie does.",
    "train-job.yaml": "For Kubeflow Trainer. Not part of the kustomization: kubectl create -f starts the training.",
}
"""The first line of each file."""

SETTINGS = ("BERTIE_SERVE_LOG_FORMAT=json",)
"""Settings of the server; with others the pods are replaced."""


def deploy_kubernetes(
    model: Path,
    out: Path,
    settings: KubernetesSettings,
    talk: Talk,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the manifests for a model into `out` and return what `--json` prints, the files' texts too.

    With `dry_run` nothing is written. Raises BundleError, UsageError, OutputError, DependencyMissing.
    """
    if not settings.image:
        raise UsageError(
            "there is no image to run.", expected="--image URI", hint=f"bertie deploy docker {model} makes one"
        )
    if settings.max_replicas < settings.replicas:
        raise UsageError(f"--max-replicas {settings.max_replicas} is less than --replicas {settings.replicas}.")
    if settings.trainjob and settings.checkpoints.startswith("/"):
        talk.warn("checkpoints in a pod's own folder are lost with the pod; a pvc:// place or a URL is kept")
    with opened(model) as bundle:
        manifest = Manifest.from_file(bundle / FILE)
        digest = hashlib.sha256((bundle / FILE).read_bytes()).hexdigest()
    service = Service(settings.name or name_of(model), digest, manifest, settings)
    files = {name: _yaml(name, document) for name, document in documents(service).items()}
    if not dry_run:
        with disk.folder(out, replace=overwrite) as stage:
            for name, text in files.items():
                (stage / name).write_text(text, encoding="utf-8")
                (stage / name).chmod(0o644)
    return {"out": str(out), "name": service.name, "digest": f"sha256:{digest}", "files": files}


def documents(service: Service) -> dict[str, Object]:
    """Return each file's document, those that kustomize reads first."""
    settings = service.settings
    if settings.kserve:
        found = {"inference-service.yaml": kserve.inference_service(service)}
    else:
        found = {
            "deployment.yaml": serving.deployment(service),
            "service.yaml": serving.front(service),
            "budget.yaml": serving.budget(service),
            "network-policy.yaml": serving.network_policy(service),
            "monitor.yaml": serving.monitor(service),
        }
        if serving.scales(service):
            found["autoscaler.yaml"] = serving.autoscaler(service)
    base = {"kustomization.yaml": _kustomization(service, sorted(found))}
    if "autoscaler.yaml" in found:
        found["prometheus-adapter.yaml"] = serving.adapter_rule(service)
    if settings.trainjob:
        found["train-job.yaml"] = training.train_job(service)
    return base | found


def _kustomization(service: Service, resources: list[str]) -> Object:
    settings = service.settings
    document: Object = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    if settings.namespace:
        document["namespace"] = settings.namespace
    document["resources"] = resources
    if not settings.kserve:
        # The generated name has a hash of the settings in it: with others, the pods are replaced.
        document["configMapGenerator"] = [{"name": f"{service.name}-settings", "literals": list(SETTINGS)}]
    return document


def _yaml(name: str, document: Object) -> str:
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("deploy", error) from error
    text: str = yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
    return f"# {ABOUT[name]}\n{text}"
