from __future__ import annotations

import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.progress import TaskID

import bertie
from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.container.place import Place
from bertie.deploy.sagemaker.artifact import write_artifact
from bertie.deploy.sagemaker.following import LOG_GROUP, _part, savings
from bertie.deploy.sagemaker.images import Kind
from bertie.deploy.sagemaker.remove import remove
from bertie.deploy.sagemaker.state import Clock
from bertie.deploy.sagemaker.training import Wanted, follow_job, train_on_sagemaker
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings
from bertie.errors import (
    AccessDenied,
    BertieError,
    BundleDamaged,
    CredentialsRefused,
    DataError,
    DeployError,
    Interrupted,
    QuotaExceeded,
    ResourceMissing,
    UsageError,
)
from bertie.talk import Bar, Talk
from tests.conftest import Bertie, last_json, make_rows, write_csv
from tests.deploy.aws.cloud import ACCOUNT, REGION, ROLE, Cloud

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
RUNNING = {"TrainingJobStatus": "InProgress", "TrainingEndTime": None}


class Heard(Talk):
    """A voice that keeps what it says."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Bar]:
        lines = self.lines

        class Told(Bar):
            def advance(self, steps: int = 1, note: str | None = None) -> None:
                lines.append(f"{title} of {total}: {steps:+} {note}")

        yield Told(None, TaskID(0))


def passing(status: str, *secondary: str, **more: Any) -> dict[str, Any]:
    """A description of a job that has gone through some states."""
    transitions = [{"Status": one, "StartTime": 1.0, "StatusMessage": f"{one} now"} for one in secondary]
    end = {} if status in {"Completed", "Failed", "Stopped"} else {"TrainingEndTime": None}
    return {
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary[-1],
        "SecondaryStatusTransitions": transitions,
        **end,
        **more,
    }


def wanted(data: Path | str, base: Path, **given: Any) -> Wanted:
    aws = {name: given.pop(name) for name in [*given] if name in AwsSettings.model_fields}
    job = {name: given.pop(name) for name in [*given] if name in TrainingJobSettings.model_fields}
    learning = {name: given.pop(name) for name in [*given] if name in TrainSettings.model_fields}
    return Wanted(
        str(data),
        None,
        None,
        AwsSettings(**{"role": ROLE} | aws),
        TrainingJobSettings(**{"instance_type": "ml.m5.xlarge", "name": "intents"} | job),
        DataSettings(),
        SplitSettings(seed=3),
        TrainSettings(**{"base": str(base), "max_passes": 2, "freeze_embeddings": False} | learning),
        **given,
    )


def job_of(cloud: Cloud) -> dict[str, Any]:
    return next(arguments for operation, arguments in cloud.calls() if operation == "CreateTrainingJob")


def platform(
    cloud: Cloud, bundle: Path, *lines: str, folder: Path, extra: Path | None = None, report: bool = True
) -> Clock:
    """A clock in whose time the platform works: the job writes its log and leaves model and report."""
    done: list[bool] = []

    def work(_: float) -> None:
        if done:
            return
        done.append(True)
        job, logs = job_of(cloud), cloud.client("logs")
        name = job["TrainingJobName"]
        logs.create_log_group(logGroupName=LOG_GROUP)
        logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=f"{name}/algo-1-1")
        now = int(time.time() * 1000)
        events = [{"timestamp": now + number, "message": line} for number, line in enumerate(lines)]
        if events:
            logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=f"{name}/algo-1-1", logEvents=events)
        with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
            for path in bundle.iterdir():
                archive.add(path, path.name)
            if extra is not None:
                archive.add(extra, "link")
        page = folder / "report.html"
        page.write_text("<html>")
        with tarfile.open(folder / "output.tar.gz", "w:gz") as archive:
            archive.add(page, "report.html")
            archive.add(page, "bundle/manifest.json")
        for archive_name in ("model.tar.gz", "output.tar.gz")[: 1 + report]:
            key = f"bertie/intents/{name}/output/{archive_name}"
            cloud.client("s3").upload_file(str(folder / archive_name), BUCKET, key)

    return Clock(poll_seconds=0.0, sleep=work)


def test_a_job_is_started_followed_and_its_model_fetched(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    cloud.states(
        training=[
            passing("InProgress", "Starting"),
            passing("InProgress", "Starting", "Downloading", "SomethingNewOfAws"),
            passing(
                "Completed", "Starting", "Downloading", "Training", TrainingTimeInSeconds=400, BillableTimeInSeconds=100
            ),
        ]
    )
    talk = Heard()
    progress = ["training: 30 of 90  pass 1 of at most 3  loss 0.693", "training: 20 of 90", "training: 90 of 90"]
    spoken = ["pass 1: validation", "[metric] train:loss=1", *progress]
    clock = platform(cloud, tiny_bundle, *spoken, folder=tmp_path)
    facts = train_on_sagemaker(wanted(tiny_data, tiny_base, spot=True, out=tmp_path / "out"), talk, clock)

    assert bertie.load(tmp_path / "out").labels == ("delivery", "praise")
    assert (tmp_path / "out" / "report.html").is_file()
    assert facts["saved_percent"] == 75.0
    said = "\n".join(talk.lines)
    assert "== Downloading: Downloading now" in said
    assert "== SomethingNewOfAws" in said
    assert said.count("pass 1: validation") == 1
    assert "[metric]" not in said
    bar = [line for line in talk.lines if line.startswith("training of 90")]
    assert [line.split()[3] for line in bar] == ["+30", "-10", "+70"], "it went back to a checkpoint in between"
    assert bar[0].endswith("pass 1 of at most 3  loss 0.693")

    uploads = [arguments["Key"] for operation, arguments in cloud.calls() if operation == "PutObject"]
    prefix = f"bertie/intents/{facts['job']}/input"
    assert f"{prefix}/train/messages.csv" in uploads
    assert {f"{prefix}/base/config.json", f"{prefix}/code/train.py", f"{prefix}/code/requirements.txt"} <= {*uploads}
    assert cloud.operations()[-1] != "CreateTrainingJob", "the platform of this test uploads after it"
    job = job_of(cloud)
    assert job["HyperParameters"] == {"seed": "3", "max_passes": "2", "freeze_embeddings": "false"}
    assert [channel["ChannelName"] for channel in job["InputDataConfig"]] == ["train", "base", "code"]
    assert job["CheckpointConfig"] == {
        "S3Uri": f"s3://{BUCKET}/bertie/intents/{facts['job']}/checkpoints",
        "LocalPath": "/opt/ml/checkpoints",
    }
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400, "MaxWaitTimeInSeconds": 172800}
    assert job["RoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    assert job["Tags"] == [{"Key": "bertie:name", "Value": "intents"}]
    remove("intents", AwsSettings(), Talk(quiet=True), everything=True)
    assert cloud.nothing_left()
    algorithm = job["AlgorithmSpecification"]
    assert algorithm["TrainingImage"].endswith("/pytorch:2.14-cpu-amzn2023-sagemaker")
    assert {one["Name"] for one in algorithm["MetricDefinitions"]} >= {"validation:macro_f1", "test:accuracy"}
    assert all(len(word) <= 256 for word in algorithm["ContainerArguments"])


def test_flags_become_arguments(cloud: Cloud, tiny_base: Path, tiny_data: Path) -> None:
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/bertie:1"
    given = {
        "image": image,
        "instances": 2,
        "instance_type": "ml.g5.xlarge",
        "kms_key": "alias/k",
        "subnets": "subnet-1",
        "security_groups": "sg-1",
        "tags": "team=nlp",
        "network_isolation": True,
        "encrypt_traffic": True,
        "environment": "A=1",
        "max_hours": 0.5,
        "retries": 0,
        "checkpoints": "s3://other-bucket/kept",
        "wait": False,
    }
    cloud.bucket("other-bucket")
    facts = train_on_sagemaker(wanted(tiny_data, tiny_base, **given), Heard())
    job = job_of(cloud)
    assert job["AlgorithmSpecification"]["TrainingImage"] == image
    assert "ContainerEntrypoint" not in job["AlgorithmSpecification"], "the image starts itself"
    assert [channel["ChannelName"] for channel in job["InputDataConfig"]] == ["train", "base"]
    machines = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
    assert job["ResourceConfig"] == machines, "its disks are encrypted by the hardware, and take no key"
    assert job["OutputDataConfig"]["KmsKeyId"] == "alias/k"
    assert job["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert {"Key": "team", "Value": "nlp"} in job["Tags"]
    assert job["EnableNetworkIsolation"] is job["EnableInterContainerTrafficEncryption"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800}
    assert job["Environment"] == {"A": "1"}
    assert "RetryStrategy" not in job
    assert job["CheckpointConfig"]["S3Uri"] == "s3://other-bucket/kept"
    assert "checkpoints" not in job["HyperParameters"]
    assert facts["follow"] == f"bertie deploy sagemaker-follow {facts['job']} --region {REGION}"
    assert "stop-training-job" in facts["stop"]


def test_a_dry_run_shows_every_request_and_sends_none(
    cloud: Cloud, bertie: Bertie, tiny_base: Path, tiny_data: Path
) -> None:
    words = ["--role", ROLE, "--region", REGION, "--instance-type", "ml.g5.xlarge", "--base", tiny_base]
    done = bertie("deploy", "sagemaker", "train", tiny_data, *words, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    requests: Any = last_json(done.stdout)["requests"]
    assert [request["operation"] for request in requests][-1] == "CreateTrainingJob"
    assert requests[0]["operation"] == "CreateBucket"  # it cannot look whether the usual one is there
    assert {request["operation"] for request in requests[1:-1]} == {"PutObject"}
    assert "-cu" in requests[-1]["arguments"]["AlgorithmSpecification"]["TrainingImage"]
    shown = bertie("deploy", "sagemaker-train", tiny_data, *words, "--dry-run").stdout
    assert shown.splitlines()[-1] == "nothing was sent; next: the same without --dry-run"
    assert cloud.asked() == []


def test_data_in_s3_are_left_to_the_job(cloud: Cloud, tiny_base: Path) -> None:
    talk, job = Heard(), wanted("s3://data-bucket/prefix/", tiny_base, wait=False)
    with pytest.raises(ResourceMissing, match="no bucket 'data-bucket'"):
        train_on_sagemaker(job, talk)
    assert cloud.operations() == []
    cloud.bucket("data-bucket")
    train_on_sagemaker(job, talk)
    channel = job_of(cloud)["InputDataConfig"][0]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://data-bucket/prefix/"
    assert any("cannot be checked here" in line for line in talk.lines)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"instance_type": None}, "no instance type is given"),
        ({"instance_type": "ml.eia2.medium"}, "that no longer exists"),
        ({"instance_type": "ml.c7g.large"}, "has ARM processors"),
        ({"instance_type": "ml.trn1.2xlarge"}, "has an accelerator"),
        ({"network_isolation": True}, "which --network-isolation cuts off"),
        ({"max_wait_hours": 2}, "is for --spot alone"),
        ({"spot": True, "max_wait_hours": 2}, "is less than --max-hours 24"),
        ({"subnets": "subnet-1"}, "needs both --subnets and --security-groups"),
        ({"region": "eu-west-9"}, "no AWS region 'eu-west-9'"),
        ({"role": None}, "no role is given"),
        ({"image": "not an image"}, "is not the address of an image"),
        ({"checkpoints": "/here"}, "is not an address in S3"),
        ({"checkpoints": f"s3://b-b/{'x' * 300}", "metric": "mcc", "image": "a/b:1"}, None),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_sent(
    given: dict[str, Any], says: str | None, cloud: Cloud, tiny_base: Path, tiny_data: Path
) -> None:
    if says is None:
        cloud.bucket("b-b")
        train_on_sagemaker(wanted(tiny_data, tiny_base, wait=False, **given), Heard())
        return
    with pytest.raises(UsageError) as caught:
        train_on_sagemaker(wanted(tiny_data, tiny_base, **given), Heard())
    assert says in str(caught.value)
    assert cloud.operations() == []


def test_bad_data_a_bad_base_and_a_filled_folder_are_refused_before_anything_is_sent(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    bad = write_csv(tmp_path / "bad.csv", [*make_rows(60), ("text", "")])
    with pytest.raises(DataError):
        train_on_sagemaker(wanted(bad, tiny_base), Heard())
    with pytest.raises(UsageError, match=r"no config\.json"):
        train_on_sagemaker(wanted(tiny_data, tmp_path), Heard())
    with pytest.raises(UsageError, match="cannot be taken"):
        train_on_sagemaker(wanted(tiny_data, tiny_base, wheel=tmp_path / "none.whl"), Heard())
    with pytest.raises(BertieError, match="exists already and is not empty"):
        train_on_sagemaker(wanted(tiny_data, tiny_base, out=tmp_path), Heard())
    assert cloud.asked() == []


def test_without_credentials_nothing_is_made(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(CredentialsRefused, match="no AWS credentials"):
        train_on_sagemaker(wanted(tiny_data, tiny_base), Heard())
    assert cloud.asked() == []


@pytest.mark.parametrize(
    ("given", "fault", "kind", "says"),
    [
        ({"role": "nobody"}, None, ResourceMissing, "there is no role 'nobody'"),
        ({"bucket": "no-such-bucket"}, None, ResourceMissing, "there is no bucket 'no-such-bucket'"),
        ({"bucket": "far-bucket"}, None, DeployError, "is in us-west-2"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_is_made(
    given: dict[str, Any],
    fault: Any,
    kind: type[BertieError],
    says: str,
    cloud: Cloud,
    tiny_base: Path,
    tiny_data: Path,
) -> None:
    import boto3

    far = boto3.client("s3", endpoint_url=cloud.url, region_name="us-west-2")
    far.create_bucket(Bucket="far-bucket", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    before = cloud.operations()
    with pytest.raises(kind) as caught:
        train_on_sagemaker(wanted(tiny_data, tiny_base, **given), Heard())
    assert says in str(caught.value)
    assert cloud.operations() == before


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ResourceLimitExceeded", "The account-level service limit for ml.m5.xlarge is 0 Instances", QuotaExceeded),
        ("AccessDeniedException", "not authorized to perform: sagemaker:CreateTrainingJob", AccessDenied),
        ("ValidationException", "Could not assume role", ResourceMissing),
    ],
)
def test_a_job_that_aws_refuses_leaves_a_list_of_what_was_uploaded(
    code: str, message: str, kind: type[BertieError], cloud: Cloud, tiny_base: Path, tiny_data: Path
) -> None:
    cloud.fail([{"operation": "CreateTrainingJob", "code": code, "message": message}])
    with pytest.raises(kind) as caught:
        train_on_sagemaker(wanted(tiny_data, tiny_base), Heard())
    assert message in caught.value.what
    hint = caught.value.hint
    for channel in ("train", "base", "code"):
        assert f"/input/{channel}/: aws s3 rm --recursive s3://{BUCKET}/bertie/intents/" in hint
    assert f"aws s3 rb s3://{BUCKET}" in hint
    assert "training job" not in hint


def test_a_throttled_request_is_sent_again(cloud: Cloud, tiny_base: Path, tiny_data: Path) -> None:
    cloud.fail([{"operation": "CreateTrainingJob", "code": "ThrottlingException", "message": "slow", "times": 2}])
    train_on_sagemaker(wanted(tiny_data, tiny_base, wait=False), Heard())
    assert cloud.operations().count("CreateTrainingJob") == 3


def test_an_upload_that_breaks_leaves_nothing_of_that_folder(cloud: Cloud, tiny_base: Path, tiny_data: Path) -> None:
    cloud.fail([{"operation": "PutObject", "code": "AccessDenied", "message": "no", "status": 403, "skip": 2}])
    with pytest.raises(AccessDenied) as caught:
        train_on_sagemaker(wanted(tiny_data, tiny_base), Heard())
    found = cloud.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    assert [one["Key"].rpartition("/")[2] for one in found] == ["messages.csv"]
    assert "/input/train/: aws s3 rm --recursive" in caught.value.hint
    assert "CreateTrainingJob" not in cloud.operations()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            passing("Failed", "Failed", FailureReason="AlgorithmError: DataError: 3 rows have no label, exit code: 3"),
            "failed: AlgorithmError: DataError: 3 rows have no label, exit code: 3",
        ),
        (passing("Failed", "Failed"), "SageMaker gives no reason"),
        (passing("Stopped", "MaxRuntimeExceeded"), "ended without a model: MaxRuntimeExceeded"),
        # A status that does not exist yet: a job with an end has ended.
        ({**passing("Vanished", "Vanished"), "TrainingEndTime": 1.0}, "ended without a model: Vanished"),
    ],
)
def test_a_job_that_ends_badly_says_why_and_where_to_look(
    state: dict[str, Any], says: str, cloud: Cloud, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    cloud.states(training=[passing("InProgress", "Starting"), state])
    with pytest.raises(DeployError) as caught:
        train_on_sagemaker(
            wanted(tiny_data, tiny_base, out=tmp_path / "out"), Heard(), Clock(0.0, sleep=lambda _: None)
        )
    assert says in caught.value.what
    assert f"aws logs tail {LOG_GROUP}" in caught.value.hint
    assert ("--checkpoints s3://" in caught.value.hint) is (state["TrainingJobStatus"] != "Failed")
    assert "stop-training-job" not in caught.value.hint, "it has ended"
    assert not (tmp_path / "out").exists()


def test_ctrl_c_while_waiting_says_what_goes_on_and_how_to_follow_and_to_stop_it(
    cloud: Cloud, tiny_base: Path, tiny_data: Path
) -> None:
    cloud.states(training=[passing("InProgress", "Training")])

    def press(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        train_on_sagemaker(wanted(tiny_data, tiny_base), Heard(), Clock(0.0, sleep=press))
    job = job_of(cloud)["TrainingJobName"]
    assert f"the job {job} goes on" in caught.value.hint
    assert f"bertie deploy sagemaker-follow {job} --region {REGION}" in caught.value.hint
    assert f"aws sagemaker stop-training-job --training-job-name {job} --region {REGION}" in caught.value.hint


def test_a_job_is_followed_later(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    cloud.states(training=[passing("InProgress", "Training"), passing("Completed", "Completed")])
    started = train_on_sagemaker(wanted(tiny_data, tiny_base, wait=False), Heard())
    clock = platform(cloud, tiny_bundle, folder=tmp_path)
    facts = follow_job(started["job"], AwsSettings(), tmp_path / "out", Heard(), clock)
    assert bertie.load(facts["bundle"]).labels == ("delivery", "praise")
    with pytest.raises(ResourceMissing, match="no training job 'nothing'"):
        follow_job("nothing", AwsSettings(), tmp_path / "other", Heard())


def test_one_who_may_not_read_logs_still_gets_the_model(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    cloud.states(training=[passing("InProgress", "Training"), passing("Completed", "Completed")])
    cloud.fail([{"operation": "FilterLogEvents", "code": "AccessDeniedException", "message": "no", "times": 9}])
    talk = Heard()
    clock = platform(cloud, tiny_bundle, "line", folder=tmp_path)
    train_on_sagemaker(wanted(tiny_data, tiny_base, out=tmp_path / "out"), talk, clock)
    assert len([line for line in talk.lines if "log is not shown" in line]) == 1
    assert cloud.asked().count("FilterLogEvents") == 1


def test_a_model_with_a_link_in_it_is_not_unpacked(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    cloud.states(training=[passing("InProgress", "Training"), passing("Completed", "Completed")])
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    clock = platform(cloud, tiny_bundle, folder=tmp_path, extra=link)
    with pytest.raises((DeployError, BundleDamaged), match="neither a file nor a folder"):
        train_on_sagemaker(wanted(tiny_data, tiny_base, out=tmp_path / "out"), Heard(), clock)
    assert not (tmp_path / "out").exists()


def test_a_job_that_left_no_model_or_no_report_says_so(
    cloud: Cloud, tiny_base: Path, tiny_data: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    ended = passing("Completed", "Completed")
    cloud.states(training=[ended | {"ModelArtifacts": {"S3ModelArtifacts": ""}}])
    started = train_on_sagemaker(wanted(tiny_data, tiny_base, wait=False), Heard())
    with pytest.raises(DeployError, match="has left no model"):
        follow_job(started["job"], AwsSettings(), tmp_path / "out", Heard())
    assert not (tmp_path / "out").exists()

    cloud.reset()
    cloud.states(training=[passing("InProgress", "Training"), ended])
    clock, talk = platform(cloud, tiny_bundle, folder=tmp_path, report=False), Heard()
    train_on_sagemaker(wanted(tiny_data, tiny_base, out=tmp_path / "out"), talk, clock)
    assert "warning: the job has left no report" in talk.lines
    assert bertie.load(tmp_path / "out").labels == ("delivery", "praise")


@pytest.mark.parametrize(
    ("state", "percent"),
    [
        ({"TrainingTimeInSeconds": 400, "BillableTimeInSeconds": 100}, 75.0),
        ({"TrainingTimeInSeconds": 400}, None),
        ({}, None),
    ],
)
def test_what_spare_machines_save(state: dict[str, int], percent: float | None) -> None:
    assert savings(state) == percent


def test_what_a_job_delivers_becomes_a_run_that_every_image_can_host(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    Place(tmp_path).deliver()
    _part(tmp_path / "model", tmp_path / "fetched")
    for name in ("bundle", "checkpoint"):
        before, after = ({path.name for path in (of / name).iterdir()} for of in (tiny_run, tmp_path / "fetched"))
        assert before - {"README.md"} == after - {"README.md"}
    kinds: tuple[Kind, ...] = ("huggingface", "bertie")
    sizes = [write_artifact(tmp_path / "fetched", tmp_path / f"{kind}.tar.gz", kind).bytes for kind in kinds]
    assert min(sizes) > 0
    # A bundle alone is packed also where a checkpoint lies in the same folder.
    whole = write_artifact(tmp_path / "model", tmp_path / "whole.tar.gz", "bertie")
    assert whole.sha256 == write_artifact(tmp_path / "fetched", tmp_path / "again.tar.gz", "bertie").sha256
