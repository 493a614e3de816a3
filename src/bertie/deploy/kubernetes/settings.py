"""Settings of `bertie deploy kubernetes`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bertie.settings import Settings

DNS_LABEL = r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$"
"""What Kubernetes takes as a name, short enough for what is added to it; or nothing."""

OBJECT_NAME = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"
CPU, MEMORY = r"^\d+(\.\d+)?m?$", r"^(\d+(\.\d+)?([kMGT]|[KMGT]i)?)?$"


class KubernetesSettings(Settings):
    """What the manifests say."""

    command: ClassVar[str] = "deploy kubernetes"

    image: str = Field("", pattern=r"^\S*$", description="Image that the nodes pull, as bertie deploy docker makes it.")
    name: str = Field("", pattern=DNS_LABEL, description="Name of all objects; made from the model's if not given.")
    namespace: str = Field("", pattern=DNS_LABEL, description="Namespace; that of kubectl if not given.")
    replicas: int = Field(2, ge=1, description="Pods that always run.")
    max_replicas: int = Field(10, ge=1, description="Pods at most; as many as --replicas for no autoscaling.")
    queue_tokens: int = Field(
        256, ge=1, description="Tokens waiting in a pod, on average over a minute, from which on pods are added."
    )
    cpu_percent: int = Field(80, ge=1, le=100, description="Share of the CPUs in use from which on pods are added.")
    cpu: str = Field("1", pattern=CPU, description="CPUs of a pod; the model computes with as many threads.")
    memory: str = Field(
        "", pattern=MEMORY, description="Memory of a pod, such as 1Gi; estimated from the model's size if not given."
    )
    startup_seconds: int = Field(120, ge=10, description="Time of a pod to become ready before it is started again.")
    pre_stop_seconds: int = Field(
        5, ge=0, description="Time that a pod which is to end still answers, until no new request is sent to it."
    )
    api_keys: str = Field(
        "",
        pattern=OBJECT_NAME,
        description="Secret with the entries keys (the file of --api-keys) and metrics (the key that Prometheus uses).",
    )
    model_claim: str = Field(
        "", pattern=OBJECT_NAME, description="PersistentVolumeClaim with the bundle, where the image holds none."
    )
    pull_secret: str = Field("", pattern=OBJECT_NAME, description="Secret for pulling the image.")
    metrics_namespace: str = Field(
        "monitoring", pattern=DNS_LABEL, description="Namespace of Prometheus, which may read /metrics."
    )
    kserve: bool = Field(False, description="A KServe InferenceService in place of Deployment, Service and scaling.")
    trainjob: str = Field(
        "", description="A Kubeflow TrainJob on these data besides: pvc://CLAIM/PATH, of a claim that pods may write."
    )
    training_image: str = Field("", pattern=r"^\S*$", description="Image with PyTorch for it; --image if not given.")
    nodes: int = Field(1, ge=1, description="Pods that train together.")
    train_cpu: str = Field("4", pattern=CPU, description="CPUs of each of them.")
    train_memory: str = Field("8Gi", pattern=MEMORY, min_length=1, description="Memory of each of them.")
    gpus: int = Field(0, ge=0, description="GPUs of each of them.")
    checkpoints: str = Field(
        "", description="Where training keeps checkpoints: pvc://CLAIM/PATH or an fsspec URL; in the run if not given."
    )
    train: str = Field("", description="Further words for bertie train, such as '--text-column message'.")
