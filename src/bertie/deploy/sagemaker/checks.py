"""What is refused before anything is sent: what SageMaker does not know, or would let cost money in vain."""

from __future__ import annotations

from bertie.deploy.aws.instances import Instance, instance, refuse_accelerator
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.images import kind_of
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings
from bertie.errors import UsageError

SERVERLESS_DISK_BYTES = 5 * 10**9
SERVERLESS_MOST_MB = 6144
FRAMEWORK_MB = {"bertie": 300, "huggingface": 1000}
"""Memory of the container without a model, roughly: ours, and PyTorch with transformers behind a Java server."""
DEFAULT_CONCURRENCY = 5
"""Requests at a time of a serverless endpoint, if none is given: a small bill when something runs wild."""
COPIES = 2
"""The model stands in memory twice while it is loaded."""


def machine(container: ContainerSettings) -> Instance:
    """Return the instance type, and see that the image can use what is in it. Raises UsageError."""
    name = container.instance_type
    if name is None:
        raise UsageError(
            "no instance type is given.",
            expected="--instance-type ml.FAMILY.SIZE, or --serverless",
            hint="bertie deploy sagemaker-recommend MODEL --rate R --p99-ms L finds one",
        )
    if kind_of(container.image) == "bertie":
        return refuse_accelerator(name, "this bundle's image")
    found = instance(name)
    if found.kind in {"neuron", "other", "arm"}:
        part = "ARM processors" if found.kind == "arm" else "an accelerator that its PyTorch does not know"
        raise UsageError(
            f"{name!r} has {part}, and AWS's Hugging Face image does not run there.",
            hint="take ml.c7i, ml.g5 or ml.g6, or an image of your own with --image",
        )
    return found


def check(aws: AwsSettings, container: ContainerSettings, hosting: HostingSettings, *, models: int) -> Instance | None:
    """Return the instance type, None for serverless. Raises UsageError that says what does not go together."""
    if models > 1 and not hosting.multi_model:
        raise UsageError(f"{models} models are given.", hint="add --multi-model to put them on one endpoint")
    _one_kind(hosting)
    if hosting.serverless:
        _serverless(aws, container, hosting)
        return None
    found = machine(container)
    if hosting.multi_model and found.kind == "gpu":
        raise UsageError("a multi-model endpoint on GPUs needs NVIDIA's Triton.", hint="take a CPU type")
    network(aws)
    _scaling(container, hosting)
    if hosting.provisioned:
        raise UsageError("--provisioned is for serverless endpoints.", hint="add --serverless, or --min-instances")
    return found


def _one_kind(hosting: HostingSettings) -> None:
    kinds = [name for name in ("serverless", "asynchronous", "multi_model") if getattr(hosting, name)]
    if len(kinds) > 1:
        both = " and ".join(f"--{kind.replace('_', '-')}" for kind in kinds)
        raise UsageError(f"{both} do not go together.", expected="one of the kinds, or none for a real-time endpoint")
    if hosting.asynchronous and not hosting.output:
        raise UsageError(
            "an asynchronous endpoint needs a place for its answers.", hint="add --output s3://BUCKET/PREFIX"
        )
    if not hosting.asynchronous:
        for name in ("output", "success_topic", "error_topic"):
            if getattr(hosting, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is for asynchronous endpoints.", hint="add --asynchronous"
                )
    if hosting.concurrency and not (hosting.serverless or hosting.asynchronous):
        raise UsageError(
            "--concurrency is for serverless and asynchronous endpoints.",
            hint="a real-time endpoint takes what comes; its server has limits of its own",
        )
    if hosting.asynchronous and hosting.capture:
        raise UsageError(
            "an asynchronous endpoint has no data capture.", hint="its requests and answers are in S3 anyway"
        )


def _serverless(aws: AwsSettings, container: ContainerSettings, hosting: HostingSettings) -> None:
    refused = {
        "--instance-type": container.instance_type,
        "--instance-count": container.instance_count > 1,
        "--network-isolation": container.network_isolation,
        "--capture": hosting.capture,
        "--subnets": aws.network(),
        "--max-instances": hosting.max_instances or hosting.min_instances is not None,
        "--kms-key for disks": aws.kms_key,
        "--ami": hosting.ami,
        "--start-seconds or --download-seconds": hosting.start_seconds or hosting.download_seconds,
    }
    for flag, given in refused.items():
        if given:
            raise UsageError(
                f"a serverless endpoint cannot have {flag}.",
                expected="a CPU, no VPC, no data capture, no network isolation, no machines of your own",
                hint="leave it out, or leave --serverless out and give --instance-type",
            )
    if (hosting.concurrency or 1) > 200:
        raise UsageError("a serverless endpoint answers 200 requests at a time at most.", hint="--concurrency 200")
    if hosting.provisioned > (hosting.concurrency or DEFAULT_CONCURRENCY):
        raise UsageError("--provisioned is more than --concurrency.", hint="raise --concurrency")


def fits_serverless(unpacked_bytes: int, kind: str, memory_mb: int) -> None:
    """Raise UsageError if a model of this size does not fit a serverless endpoint, with the memory that it needs."""
    needs = FRAMEWORK_MB[kind] + COPIES * unpacked_bytes / 2**20
    size = f"the model is {unpacked_bytes / 2**20:,.0f} MB, and needs about {needs:,.0f} MB of memory with its server"
    if needs > SERVERLESS_MOST_MB or unpacked_bytes > SERVERLESS_DISK_BYTES:
        raise UsageError(
            f"{size}: more than a serverless endpoint has.",
            expected=f"at most {SERVERLESS_MOST_MB:,} MB of memory and 5 GB on disk",
            hint="bertie optimize makes it smaller; or give --instance-type instead of --serverless",
        )
    if needs > memory_mb:
        enough = min(SERVERLESS_MOST_MB, int(-(-needs // 1024)) * 1024)
        raise UsageError(f"{size}, and --memory-mb is {memory_mb:,}.", hint=f"--memory-mb {enough}")


def network(aws: AwsSettings) -> None:
    """Raise UsageError for half of a VPC."""
    given = aws.network()
    if given and not all(given.values()):
        raise UsageError("a VPC needs both.", expected="--subnets and --security-groups")


def _scaling(container: ContainerSettings, hosting: HostingSettings) -> None:
    low, high = hosting.min_instances, hosting.max_instances
    if high is None:
        if low is not None:
            raise UsageError("--min-instances alone scales nothing.", hint="add --max-instances")
        return
    low = container.instance_count if low is None else low
    if low > high:
        raise UsageError(f"--min-instances {low} is more than --max-instances {high}.")
    if low == 0 and not hosting.asynchronous:
        raise UsageError(
            "only an asynchronous endpoint can scale down to no instance at all.",
            hint="--min-instances 1, --asynchronous, or --serverless",
        )
    if not (low or 1) <= container.instance_count <= high:
        raise UsageError(f"--instance-count {container.instance_count} is not between {low} and {high}.")
