"""A training job on its way: what it goes through, what it says, why it failed, and its model at the end."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertie import disk
from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.read import unpack
from bertie.bundle.write import CARD
from bertie.deploy.aws.calls import Caller
from bertie.deploy.aws.store import Store, split_uri
from bertie.deploy.container.metrics import MARK
from bertie.deploy.container.place import REPORTS
from bertie.deploy.sagemaker.state import Clock
from bertie.errors import AccessDenied, DeployError, ResourceMissing
from bertie.runtime.classifier import load
from bertie.talk import Bar, Talk

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ENDED = frozenset({"Completed", "Failed", "Stopped"})
"""Statuses that do not change again. AWS adds others now and then: a job with an end has ended, too."""
REPORT = "output.tar.gz"
PROGRESS = re.compile(r"training: (\d+) of (\d+)(?:  (.*))?")
"""A line of progress, as a training without a terminal says it."""


@dataclass(frozen=True)
class Job:
    """A training job."""

    name: str
    region: str
    flags: str = ""
    """With which a command looks in the same place."""

    @property
    def what(self) -> str:
        """Its kind and name, in the list of what was made."""
        return f"training job {self.name}"


def follow_command(job: Job) -> str:
    """Return the command that follows a job and fetches its model."""
    return f"bertie deploy sagemaker-follow {job.name}{job.flags or f' --region {job.region}'}"


def stop_command(job: Job) -> str:
    """Return the command that ends a job."""
    return f"aws sagemaker stop-training-job --training-job-name {job.name} --region {job.region}"


def follow(caller: Caller, job: Job, talk: Talk, clock: Clock | None = None) -> dict[str, Any]:
    """Tell what a job goes through and what it says until it ends; return its last description.

    Raises DeployError with its reason if it failed or was stopped, ResourceMissing if there is no such job.
    """
    clock, passed = clock or Clock(), 0
    with ExitStack() as stack:
        log = _Log(caller, job, talk, _Progress(talk, stack))
        while True:
            state = describe(caller, job)
            transitions = state.get("SecondaryStatusTransitions", [])
            for one in transitions[passed:]:
                message = str(one.get("StatusMessage") or "").strip()
                talk.say(f"== {one['Status']}{f': {message}' if message else ''}")
            passed = max(passed, len(transitions))
            log.tell()
            if state["TrainingJobStatus"] in ENDED or state.get("TrainingEndTime"):
                break
            clock.sleep(clock.poll_seconds)
        log.tell()
    caller.unmade(job.what)  # it costs nothing any more, and cannot be removed
    return _judged(state, job)


def describe(caller: Caller, job: Job) -> dict[str, Any]:
    """Return what SageMaker says of a job. Raises ResourceMissing if there is none of that name."""
    try:
        return caller.read(
            "sagemaker", "DescribeTrainingJob", {"TrainingJobName": job.name}, f"look at the training job {job.name}"
        )
    except ResourceMissing as error:
        raise ResourceMissing(
            f"there is no training job {job.name!r} in {job.region}.",
            hint=f"aws sagemaker list-training-jobs --region {job.region} shows them",
        ) from error


def _judged(state: dict[str, Any], job: Job) -> dict[str, Any]:
    status, second = str(state["TrainingJobStatus"]), str(state.get("SecondaryStatus") or "")
    if status == "Completed":
        return state
    kept = state.get("CheckpointConfig", {}).get("S3Uri")
    logs = f"aws logs tail {LOG_GROUP} --log-stream-name-prefix {job.name} --region {job.region} shows its log"
    if status == "Failed":
        reason = str(state.get("FailureReason") or "SageMaker gives no reason.").strip()
        raise DeployError(f"the training job {job.name} failed: {reason}", hint=logs)
    again = f"; the same command with --checkpoints {kept} goes on from its last checkpoint" if kept else ""
    raise DeployError(f"the training job {job.name} ended without a model: {second or status}.", hint=logs + again)


class _Progress:
    """The job's own lines of progress, as a bar here."""

    def __init__(self, talk: Talk, stack: ExitStack) -> None:
        self._talk, self._stack = talk, stack
        self._bar: Bar | None = None
        self._done = 0

    def takes(self, line: str) -> bool:
        """Move the bar by a line of the log, if it is such a line."""
        found = PROGRESS.fullmatch(line)
        if found is None:
            return False
        if self._bar is None:
            self._bar = self._stack.enter_context(self._talk.progress("training", int(found[2])))
        before, self._done = self._done, int(found[1])
        # Less than before where a machine was taken away and the job goes on from a checkpoint.
        self._bar.advance(self._done - before, note=found[3])
        return True


@dataclass
class _Log:
    """The lines of a job's log in CloudWatch, each told once."""

    caller: Caller
    job: Job
    talk: Talk
    progress: _Progress
    since: int = 0
    seen: set[str] = field(default_factory=set)
    open: bool = True

    def tell(self) -> None:
        """Say the lines that are new. Those that are for machines are left out."""
        if not self.open:
            return
        asked = {
            "logGroupName": LOG_GROUP,
            "logStreamNamePrefix": f"{self.job.name}/",
            **({"startTime": self.since} if self.since else {}),
        }
        try:
            pages = list(self.caller.pages("logs", "FilterLogEvents", asked, f"read the log {LOG_GROUP}"))
        except ResourceMissing:
            return  # the first job of an account has none until it writes
        except AccessDenied as error:
            self.talk.warn(f"the job's log is not shown: {error.what}")
            self.open = False
            return
        for event in (event for page in pages for event in page.get("events", [])):
            if event["eventId"] in self.seen:
                continue
            self.seen.add(event["eventId"])
            self.since = max(self.since, event["timestamp"])
            line = event["message"].rstrip()
            if not line.startswith(MARK) and not self.progress.takes(line):
                self.talk.say(line)


def fetch(caller: Caller, job: Job, state: Mapping[str, Any], out: Path, talk: Talk) -> dict[str, Any]:
    """Download the model and the report of a finished job into a folder that looks like a run; return the facts.

    The archive is unpacked safely, and the bundle in it is checked and loaded. Raises DeployError, BundleError.
    """
    uri = str(state.get("ModelArtifacts", {}).get("S3ModelArtifacts") or "")
    if not uri:
        raise DeployError(f"the training job {job.name} has left no model.")
    bucket, key = split_uri(uri)
    store = Store(caller, bucket)
    talk.say(f"fetching {uri}")
    with disk.folder(out) as stage, tempfile.TemporaryDirectory(prefix="bertie-") as temporary:
        unpacked = Path(temporary) / "model"
        unpacked.mkdir()
        unpack(store.get_file(key, Path(temporary) / "model.tar.gz"), unpacked)
        _part(unpacked, stage)
        load(stage / "bundle")
        try:
            report = store.get_file(f"{key.rpartition('/')[0]}/{REPORT}", Path(temporary) / REPORT)
        except ResourceMissing:
            talk.warn("the job has left no report")
        else:
            _take_reports(report, Path(temporary) / "report", stage)
    metrics = {str(one["MetricName"]): float(one["Value"]) for one in state.get("FinalMetricDataList", [])}
    facts = {"out": str(out), "bundle": str(out / "bundle"), "model": uri, "metrics": metrics}
    times = {"train_seconds": "TrainingTimeInSeconds", "billable_seconds": "BillableTimeInSeconds"}
    facts |= {name: state[key] for name, key in times.items() if key in state}
    return facts | {"saved_percent": savings(state)}


def _part(model: Path, stage: Path) -> None:
    """Make a bundle and a checkpoint of a folder that is both, as a job delivers them; a run has one of each."""
    manifest = Manifest.from_file(model / FILE)
    bundle = {FILE, CARD, *manifest.files}
    for path in [path for path in model.rglob("*") if path.is_file()]:
        name = path.relative_to(model)
        homes = ["bundle"] if name.as_posix() in bundle else ["checkpoint"]
        if name.as_posix() == manifest.input.tokenizer and (model / "config.json").is_file():
            homes = ["bundle", "checkpoint"]  # the two are the same file
        for home in homes:
            (stage / home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, stage / home / name)


def _take_reports(archive: Path, folder: Path, stage: Path) -> None:
    """Copy the reports out of an archive. SageMaker packs output/data with or without its folder's name."""
    folder.mkdir()
    unpack(archive, folder)
    for name in REPORTS:
        for path in (folder / "data" / name, folder / name):
            if path.is_file():
                shutil.copyfile(path, stage / name)


def savings(state: Mapping[str, Any]) -> float | None:
    """Return the percentage that spare machines saved; None where SageMaker does not say.

    The formula is that of BillableTimeInSeconds in the service's description.
    """
    trained, paid = state.get("TrainingTimeInSeconds"), state.get("BillableTimeInSeconds")
    return round((1 - paid / trained) * 100, 1) if trained and paid is not None else None
