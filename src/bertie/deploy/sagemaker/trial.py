"""A first real request to an endpoint, with a text of the bundle's probe, and what a user types to send one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.probe import TOLERANCE, Probe
from bertie.bundle.read import opened
from bertie.deploy.aws.calls import Caller
from bertie.deploy.aws.store import Store, key_of, split_uri
from bertie.deploy.sagemaker.state import Clock, logs_command
from bertie.errors import BundleNotFound, DeployError, ResourceMissing
from bertie.talk import Talk

CHOSEN = 1
"""Which of the probe's texts is sent: a plain sentence."""
QUEUE_SECONDS = 120.0
"""How long an asynchronous answer may take before we stop looking for it."""


@dataclass(frozen=True)
class Trial:
    """A request, and the label of its answer; None where there are several, or none is clear."""

    body: str
    label: str | None

    @classmethod
    def of(cls, model: Path) -> Trial:
        """Return the trial of a run, a bundle or an archive of one. A checkpoint alone has a text and no answer."""
        try:
            with opened(model) as folder:
                manifest = Manifest.from_file(folder / FILE)
                probe = Probe.from_file(folder / manifest.probe)
        except BundleNotFound:
            return cls(json.dumps({"inputs": "Where is the invoice for March?"}), None)
        text, scores = probe.texts[CHOSEN], probe.scores[CHOSEN]
        given = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
        first, second = sorted(scores, reverse=True)[:2] if len(scores) > 1 else (1.0, 0.0)
        clear = manifest.task == "single-label" and first - second > 2 * TOLERANCE
        label = manifest.labels[scores.index(first)] if clear else None
        return cls(json.dumps({"inputs": given}, ensure_ascii=False), label)

    def judge(self, answer: bytes, name: str, flags: str = "") -> Any:
        """Return the answer. Raises DeployError if it is not JSON or its label is not the bundle's."""
        try:
            found = json.loads(answer)
        except ValueError:
            raise DeployError(
                f"the endpoint {name!r} answers, but not in JSON.", hint=logs_command(name, flags)
            ) from None
        if self.label is not None and next(_labels(found), None) != self.label:
            raise DeployError(
                f"the endpoint {name!r} answers, but the label of the probe's text is not {self.label!r} there.",
                hint=f"{logs_command(name, flags)}; --update with the right model replaces it",
            )
        return found


def _labels(value: Any) -> Iterator[str]:
    """Yield the labels in an answer, in whatever lists they are; the best comes first."""
    if isinstance(value, list):
        for part in value:
            yield from _labels(part)
    elif isinstance(value, dict) and "label" in value:
        yield str(value["label"])


def try_endpoint(caller: Caller, name: str, trial: Trial, *, target: str | None = None) -> Any:
    """Send the trial to a real-time or serverless endpoint; return the answer, in a dry run None.

    Raises DeployError.
    """
    arguments: dict[str, Any] = {
        "EndpointName": name,
        "ContentType": "application/json",
        "Accept": "application/json",
        "Body": trial.body,
    }
    if target:
        arguments["TargetModel"] = target
    if caller.dry:
        return caller.send("sagemaker-runtime", "InvokeEndpoint", arguments, f"ask the endpoint {name}") or None
    answer = caller.read("sagemaker-runtime", "InvokeEndpoint", arguments, f"ask the endpoint {name}")
    return trial.judge(answer["Body"].read(), name, caller.session.flags)


def try_asynchronous(
    caller: Caller, store: Store, name: str, trial: Trial, talk: Talk, clock: Clock | None = None
) -> Any:
    """Send the trial to an asynchronous endpoint and return the answer from S3, in a dry run None.

    Raises DeployError.
    """
    clock = clock or Clock(poll_seconds=2.0)
    key = key_of(name, "trial", "input.json")
    upload: dict[str, Any] = {"Bucket": store.bucket, "Key": key, "Body": trial.body}
    if store.kms_key:
        upload |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": store.kms_key}
    caller.send("s3", "PutObject", upload, "upload the trial")
    arguments = {"EndpointName": name, "InputLocation": store.uri(key), "ContentType": "application/json"}
    if caller.dry:
        return caller.send("sagemaker-runtime", "InvokeEndpointAsync", arguments, f"ask the endpoint {name}") or None
    sent = caller.read("sagemaker-runtime", "InvokeEndpointAsync", arguments, f"ask the endpoint {name}")
    talk.say(f"the answer comes to {sent['OutputLocation']}")
    started = clock.now()
    while clock.now() - started < QUEUE_SECONDS:
        if (found := _object(caller, sent["OutputLocation"])) is not None:
            return trial.judge(found, name, caller.session.flags)
        if sent.get("FailureLocation") and _object(caller, sent["FailureLocation"]) is not None:
            raise DeployError(
                f"the endpoint {name!r} could not answer; why stands in {sent['FailureLocation']}.",
                hint=logs_command(name, caller.session.flags),
            )
        clock.sleep(clock.poll_seconds)
    talk.warn(f"no answer within {QUEUE_SECONDS:.0f} s; look at {sent['OutputLocation']} later")
    return None


def _object(caller: Caller, uri: str) -> bytes | None:
    bucket, key = split_uri(uri)
    try:
        body: bytes = caller.read("s3", "GetObject", {"Bucket": bucket, "Key": key}, f"read {uri}")["Body"].read()
    except ResourceMissing:
        return None
    return body


def snippet(name: str, region: str, trial: Trial, *, kind: str, target: str | None = None) -> str:
    """Return Python that asks the endpoint with boto3. `kind` is real-time, serverless, asynchronous or multi-model."""
    lines = ["import boto3", f'client = boto3.client("sagemaker-runtime", region_name="{region}")']
    if kind == "asynchronous":
        call = f'client.invoke_endpoint_async(EndpointName="{name}", ContentType="application/json",'
        return "\n".join(
            [*lines, f"sent = {call}", '    InputLocation="s3://BUCKET/INPUT.json")', 'print(sent["OutputLocation"])']
        )
    of = f', TargetModel="{target}"' if target else ""
    call = f'client.invoke_endpoint(EndpointName="{name}", ContentType="application/json"{of},'
    return "\n".join([*lines, f"answer = {call}", f"    Body={trial.body!r})", 'print(answer["Body"].read().decode())'])
