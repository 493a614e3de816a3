"""`bertie deploy sagemaker-train`: check, upload, start the job, follow it, fetch the model.

Nothing is sent before the data has been checked as training will check it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.calls import Caller, Made
from bertie.deploy.aws.session import open_session, role_arn
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.store import Store, check_places, key_of, open_store, split_uri
from bertie.deploy.naming import slug
from bertie.deploy.sagemaker.following import Job, describe, fetch, follow, follow_command, stop_command
from bertie.deploy.sagemaker.images import PYTORCH, training_image_uri
from bertie.deploy.sagemaker.source_folder import write_source_folder
from bertie.deploy.sagemaker.state import Clock, delete_command
from bertie.deploy.sagemaker.training_request import CODE, Plan, hyperparameters, is_folder, job_name, machine
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings
from bertie.disk import refuse_filled
from bertie.errors import NameTaken
from bertie.pipeline.load_data import load_splits
from bertie.talk import Talk
from bertie.train.base_models import resolve


@dataclass(frozen=True)
class Wanted:
    """What the user asks for, all of it. Data are files or folders here, or addresses in S3."""

    data: str
    valid: str | None
    test: str | None
    aws: AwsSettings
    job: TrainingJobSettings
    data_settings: DataSettings
    split: SplitSettings
    train: TrainSettings
    out: Path | None = None
    wheel: Path | None = None
    dry: bool = False

    @property
    def files(self) -> dict[str, str]:
        """What the channels hold, by their names."""
        named = {"train": self.data, "valid": self.valid, "test": self.test}
        if is_folder(self.train.base):
            named["base"] = self.train.base
        return {name: value for name, value in named.items() if value is not None}


def train_on_sagemaker(wanted: Wanted, talk: Talk, clock: Clock | None = None) -> dict[str, Any]:
    """Start a training job, and with `wait` follow it and fetch its model; return what `--json` prints.

    Raises UsageError and DataError before anything is sent, DeployError with the list of what was made, Interrupted.
    """
    found = machine(wanted.job, wanted.aws)
    if wanted.out is not None:
        refuse_filled(wanted.out)
    values = hyperparameters(wanted.data_settings, wanted.split, wanted.train)
    check(wanted, talk)
    with tempfile.TemporaryDirectory(prefix="bertie-") as folder:
        files = wanted.files
        if wanted.job.image == PYTORCH:
            write_source_folder(Path(folder) / CODE, wheel=wanted.wheel)
            files[CODE] = str(Path(folder) / CODE)
        caller, job, facts = _start(wanted, values, files, talk, gpu=found.kind == "gpu")
    if wanted.dry:
        return facts | {"requests": [request.as_dict() for request in caller.requests]}
    talk.say(f"started the training job {job.name} in {job.region}")
    if not wanted.job.wait:
        return facts | {"follow": follow_command(job), "stop": stop_command(job)}
    return facts | finish(caller, job, wanted.out or Path(job.name), talk, clock)


def _start(
    wanted: Wanted, values: Mapping[str, str], files: Mapping[str, str], talk: Talk, *, gpu: bool
) -> tuple[Caller, Job, dict[str, Any]]:
    """Upload the files by their channels, and start the job."""
    session = open_session(wanted.aws, dry=wanted.dry)
    caller = Caller(session)
    image = training_image_uri(session, wanted.job.image, gpu=gpu)
    role = role_arn(session, wanted.aws.role)
    name = wanted.job.name or slug(Path(wanted.data.rstrip("/")).name.partition(".")[0])
    job = Job(job_name(name), session.region, session.flags)
    with caller.accounted():
        there = [at for at in files.values() if "://" in at]
        check_places(caller, wanted.train.checkpoints, *there)
        store = open_store(caller, wanted.aws)
        channels = {channel: _put(store, name, job, channel, at, talk) for channel, at in files.items()}
        kept = wanted.train.checkpoints or store.uri(key_of(name, job.name, "checkpoints"))
        plan = Plan(
            name, job.name, role, image, channels, store.uri(key_of(name)), kept, values, wanted.aws, wanted.job
        )
        made = Made(job.what, stop_command(job))
        try:
            caller.send(
                "sagemaker", "CreateTrainingJob", plan.request(), f"start the training job {job.name}", makes=made
            )
        except NameTaken:
            # The name holds the second: the answer was lost, and the library asked again. Or somebody else's is there.
            if describe(caller, job).get("OutputDataConfig", {}).get("S3OutputPath") != plan.output:
                raise
            caller.made.append(made)
    facts = {"job": job.name, "name": name, "region": job.region, "image": image, "checkpoints": kept}
    facts["remove"] = delete_command(name, session.flags, everything=True)
    return caller, job, facts


def finish(caller: Caller, job: Job, out: Path, talk: Talk, clock: Clock | None = None) -> dict[str, Any]:
    """Follow a job until it ends and fetch its model into `out`; return what became of it.

    Raises DeployError with the reason of a job that failed, Interrupted with what goes on after Ctrl-C.
    """
    goes_on = (
        f"the job {job.name} goes on, and costs money; {follow_command(job)} follows it, {stop_command(job)} ends it"
    )
    with caller.accounted(goes_on):
        state = follow(caller, job, talk, clock)
    with caller.accounted(f"the job {job.name} has ended; {follow_command(job)} fetches its model"):
        return fetch(caller, job, state, out, talk)


def follow_job(job: str, aws: AwsSettings, out: Path | None, talk: Talk, clock: Clock | None = None) -> dict[str, Any]:
    """Follow a job that was started before, and fetch its model; return what `--json` prints."""
    out = out or Path(job)
    refuse_filled(out)
    session = open_session(aws)
    done = finish(Caller(session), Job(job, session.region, session.flags), out, talk, clock)
    return {"job": job, "region": session.region} | done


def check(wanted: Wanted, talk: Talk) -> None:
    """Read and check data and base as training will. What is in S3 already is left to the job.

    Raises DataError, UsageError.
    """
    if wanted.train.checkpoints:
        split_uri(wanted.train.checkpoints)
    if is_folder(wanted.train.base):
        resolve(wanted.train.base)
    remote = [at for name, at in wanted.files.items() if "://" in at and name != "base"]
    if remote:
        for at in remote:
            split_uri(at)
        talk.warn(f"{', '.join(remote)} cannot be checked here; the job does it")
        return
    valid, test = (Path(at) if at else None for at in (wanted.valid, wanted.test))
    splits = load_splits(Path(wanted.data), valid, test, wanted.data_settings, wanted.split, talk)
    talk.say(f"checked: {len(splits.train)} training, {len(splits.valid)} validation rows; {len(splits.labels)} labels")


def _put(store: Store, name: str, job: Job, channel: str, at: str, talk: Talk) -> str:
    """Upload what a channel holds, unless it is in S3; return its address."""
    if "://" in at:
        return at
    path, prefix = Path(at), key_of(name, job.name, "input", channel)
    with _as_one(store, prefix):
        if path.is_dir():
            return store.put_folder(path, prefix, name, talk)
        store.put_file(path, f"{prefix}/{path.name}", name, talk)
    return store.uri(prefix + "/")


@contextmanager
def _as_one(store: Store, prefix: str) -> Iterator[None]:
    """Name the files of one folder as one thing that was made: there may be thousands."""
    made, before = store.caller.made, len(store.caller.made)
    yield
    if len(made) > before:
        uri = store.uri(prefix + "/")
        made[before:] = [Made(uri, f"aws s3 rm --recursive {uri}")]
