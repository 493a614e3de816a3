"""`bertie deploy sagemaker-batch`: a batch transform job, one JSON value a line in, one JSON answer a line out."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.read import opened
from bertie.config import ServeSettings
from bertie.deploy.aws.calls import Caller, Made
from bertie.deploy.aws.instances import instance
from bertie.deploy.aws.session import open_session, role_arn
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.store import Store, check_places, key_of, open_store, split_uri
from bertie.deploy.aws.tags import tags
from bertie.deploy.naming import name_of
from bertie.deploy.sagemaker.checks import machine, network
from bertie.deploy.sagemaker.cost import preview
from bertie.deploy.sagemaker.endpoint import LONGEST_SECONDS, PATIENT, model_request
from bertie.deploy.sagemaker.images import image_uri, kind_of
from bertie.deploy.sagemaker.pack import pack
from bertie.deploy.sagemaker.settings import ContainerSettings, TransformSettings
from bertie.deploy.sagemaker.state import Clock, delete_command, reason
from bertie.errors import BertieError, DataNotFound, DataUnreadable, DeployError, UsageError
from bertie.serve.wire.exchange import Limits
from bertie.serve.wire.invocations import read
from bertie.talk import Talk

LINES = "application/jsonlines"
MOST_MB = 100
"""Of all requests that an instance is given at a time, together."""
DONE = frozenset({"Completed", "Failed", "Stopped"})


@dataclass(frozen=True)
class Job:
    """What the user asks for."""

    model: Path
    input: str
    """A local file, or an object or prefix in S3."""
    output: str
    """A prefix in S3."""
    aws: AwsSettings
    container: ContainerSettings
    batch: TransformSettings
    dry: bool = False
    prices: Path | None = None


def transform(job: Job, talk: Talk, clock: Clock | None = None) -> dict[str, Any]:
    """Score a file of JSON Lines on SageMaker's machines; return what `--json` prints. The model is removed at the end.

    Raises UsageError and DataError before anything is sent, and DeployError with the list of what was made.
    """
    found = machine(job.container)
    network(job.aws)
    if job.batch.at_a_time * job.batch.payload_mb > MOST_MB:
        raise UsageError("--at-a-time times --payload-mb is more than 100 MB.", hint="make one of them smaller")
    split_uri(job.output)
    if not job.input.startswith("s3://"):
        check_lines(Path(job.input), _limits(job.model), job.batch.payload_mb)
    kind = kind_of(job.container.image)
    session = open_session(job.aws, dry=job.dry)
    caller = Caller(session)
    image = image_uri(session, job.container.image, gpu=found.kind == "gpu")
    role = role_arn(session, job.aws.role)
    name = f"{name_of(job.model)}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    with caller.accounted(), tempfile.TemporaryDirectory(prefix="bertie-") as folder:
        check_places(caller, job.output, job.input if job.input.startswith("s3://") else None)
        store = open_store(caller, job.aws, make=False)
        artifact = pack(job.model, Path(folder), kind, talk, verify=job.container.verify)
        key = key_of(name_of(job.model), artifact.sha256[:12], "model.tar.gz")
        data = store.put_file(artifact.path, key, name_of(job.model), talk)
        given = _given(job, store, name, talk)
        # A name of its own: it is removed at the end, and must not be the one that an endpoint uses.
        model = model_request(name_of(job.model), role, image, kind, data, job.aws, job.container, more=PATIENT)
        model |= {"ModelName": name}
        remove = f"aws sagemaker delete-model --model-name {name} --region {session.region}"
        caller.send("sagemaker", "CreateModel", model, "make the model", makes=Made(f"model {name}", remove))
        caller.send("sagemaker", "CreateTransformJob", _request(job, name, given), f"start the job {name}")
    facts: dict[str, Any] = {
        "job": name,
        "region": session.region,
        "input": given,
        "output": job.output,
        "remove": delete_command(name_of(job.model), session.flags, everything=True),
        "cost": preview(job.container.instance_type, job.container.instance_count, job.prices),
    }
    if job.dry:
        if job.container.wait:
            caller.send("sagemaker", "DeleteModel", {"ModelName": name}, "remove the model")
        return facts | {"requests": [request.as_dict() for request in caller.requests]}
    if not job.container.wait:
        goes_on = f"{_goes_on(name, session.region)}\nwhen it has ended: {remove}"
        return facts | {"status": "InProgress", "made": [made.what for made in caller.made], "follow": goes_on}
    with caller.accounted(_goes_on(name, session.region)):
        _wait(caller, name, talk, minutes=job.container.wait_minutes, clock=clock or Clock())
    caller.send("sagemaker", "DeleteModel", {"ModelName": name}, "remove the model")
    return facts | {"status": "Completed"}


def _limits(model: Path) -> Limits:
    with opened(model) as folder:
        pairs = Manifest.from_file(folder / FILE).input.pairs
    return Limits(pairs, 1, ServeSettings().max_characters)


def check_lines(path: Path, limits: Limits, payload_mb: int) -> int:
    """Return how many lines a file of JSON Lines has. Raises DataNotFound, DataUnreadable with the first bad line.

    One bad record fails its whole file on SageMaker, after the machines have been paid for.
    """
    if not path.is_file():
        raise DataNotFound(f"there is no file {path}.", hint="check the path")
    count = 0
    try:
        with path.open("rb") as file:
            for count, line in enumerate(file, 1):
                _check_line(line, f"line {count} of {path}", limits, payload_mb)
    except OSError as error:
        raise DataUnreadable(f"cannot read {path}: {error.strerror or error}.") from error
    if not count:
        raise DataUnreadable(f"{path} is empty.")
    return count


def _check_line(line: bytes, where: str, limits: Limits, payload_mb: int) -> None:
    """Read a line as the server will."""
    if len(line) > payload_mb * 2**20:
        raise DataUnreadable(
            f"{where} is longer than a request may be.", expected=f"at most {payload_mb} MB", hint="--payload-mb"
        )
    try:
        read(line, LINES, LINES, limits)
    except BertieError as error:
        raise DataUnreadable(f"{where}: {error.what}", expected=error.expected) from None


def _given(job: Job, store: Store, name: str, talk: Talk) -> str:
    if job.input.startswith("s3://"):
        split_uri(job.input)
        return job.input
    path = Path(job.input)
    return store.put_file(path, key_of(name_of(job.model), "batch", name, path.name), name_of(job.model), talk)


def _request(job: Job, name: str, given: str) -> dict[str, Any]:
    """Return the arguments of CreateTransformJob."""
    output: dict[str, Any] = {"S3OutputPath": job.output, "Accept": LINES, "AssembleWith": "Line"}
    resources: dict[str, Any] = {
        "InstanceType": job.container.instance_type,
        "InstanceCount": job.container.instance_count,
    }
    if job.aws.kms_key:
        output["KmsKeyId"] = job.aws.kms_key
        if instance(str(job.container.instance_type)).takes_key:
            resources["VolumeKmsKeyId"] = job.aws.kms_key
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": given}}
    arguments: dict[str, Any] = {
        "TransformJobName": name,
        "ModelName": name,
        "MaxConcurrentTransforms": job.batch.at_a_time,
        "MaxPayloadInMB": job.batch.payload_mb,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": LONGEST_SECONDS, "InvocationsMaxRetries": 1},
        "BatchStrategy": "MultiRecord",
        "TransformInput": {"DataSource": source, "ContentType": LINES, "SplitType": "Line", "CompressionType": "None"},
        "TransformOutput": output,
        "TransformResources": resources,
        "Tags": tags(name_of(job.model), job.aws.tag_pairs()),
    }
    return arguments | ({"DataProcessing": {"JoinSource": "Input"}} if job.batch.join else {})


def _wait(caller: Caller, name: str, talk: Talk, *, minutes: float, clock: Clock) -> None:
    started, last = clock.now(), ""
    while True:
        asked = {"TransformJobName": name}
        state = caller.read("sagemaker", "DescribeTransformJob", asked, f"look at the job {name}")
        status, passed = str(state["TransformJobStatus"]), clock.now() - started
        if status != last:
            talk.say(f"{passed / 60:5.1f} min  {status}")
            last = status
        if status == "Completed":
            return
        if status in DONE:
            raise DeployError(f"the job {name} is {status}: {reason(state)}", hint=_logs(name, caller.session.region))
        if passed > minutes * 60:
            raise DeployError(
                f"the job is still {status} after {minutes:g} minutes.", hint=_goes_on(name, caller.session.region)
            )
        clock.sleep(clock.poll_seconds)


def _logs(name: str, region: str) -> str:
    group = "/aws/sagemaker/TransformJobs"
    return f"aws logs tail {group} --log-stream-name-prefix {name} --region {region} shows what the container said"


def _goes_on(name: str, region: str) -> str:
    asked = f"--transform-job-name {name} --region {region}"
    return (
        f"the job {name} goes on.\nfollow it: aws sagemaker describe-transform-job {asked}\n"
        f"stop it: aws sagemaker stop-transform-job {asked}"
    )
