from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.batch import Job, _request, check_lines, transform
from bertie.deploy.sagemaker.settings import ContainerSettings, TransformSettings
from bertie.deploy.sagemaker.state import Clock
from bertie.errors import DataNotFound, DataUnreadable, DeployError, Interrupted, ResourceMissing, UsageError
from bertie.serve.wire.exchange import Limits
from tests.deploy.aws.cloud import QUICK, ROLE, Cloud
from tests.deploy.sagemaker.test_deploy import IMAGE, QUIET, changes, sent

OUT = "s3://answers/intents"


@pytest.fixture
def texts(cloud: Cloud, tmp_path: Path) -> Path:
    cloud.bucket("answers")
    path = tmp_path / "texts.jsonl"
    path.write_text('"where is my parcel"\n{"text": "thank you"}\n')
    return path


def run(
    bundle: Path,
    given: object,
    *,
    dry: bool = False,
    wait: bool = True,
    clock: Clock = QUICK,
    output: str = OUT,
    **batch: Any,
) -> dict[str, Any]:
    container = {"image": IMAGE, "verify": False, "instance_type": "ml.c7i.xlarge", "instance_count": 2, "wait": wait}
    job = Job(
        bundle,
        str(given),
        output,
        AwsSettings.load({"role": ROLE, "kms_key": "alias/k"}, environment={}),
        ContainerSettings.load(container, environment={}),
        TransformSettings.load(batch, environment={}),
        dry,
    )
    return transform(job, QUIET, clock)


def test_lines_go_in_and_lines_come_out(cloud: Cloud, tiny_bundle: Path, texts: Path) -> None:
    facts = run(tiny_bundle, texts, at_a_time=4, join=True)
    assert changes(cloud) == ["CreateModel", "CreateTransformJob", "DeleteModel"]
    request = sent(cloud, "CreateTransformJob")
    assert request["TransformInput"]["SplitType"] == request["TransformOutput"]["AssembleWith"] == "Line"
    assert request["TransformInput"]["ContentType"] == request["TransformOutput"]["Accept"] == "application/jsonlines"
    assert request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == facts["input"]
    assert request["TransformOutput"]["KmsKeyId"] == request["TransformResources"]["VolumeKmsKeyId"] == "alias/k"
    assert (request["MaxConcurrentTransforms"], request["BatchStrategy"]) == (4, "MultiRecord")
    assert request["DataProcessing"] == {"JoinSource": "Input"}
    assert request["Tags"] == sent(cloud, "CreateModel")["Tags"]
    assert facts["status"] == "Completed"
    bucket, _, key = facts["input"].removeprefix("s3://").partition("/")
    assert cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == texts.read_bytes()


@pytest.mark.parametrize(("kind", "takes"), [("ml.c5.xlarge", True), ("ml.g5.xlarge", False)])
def test_the_key_is_for_disks_that_take_one(kind: str, takes: bool) -> None:
    job = Job(
        Path("bundle"),
        "s3://b/in",
        OUT,
        AwsSettings(kms_key="alias/k"),
        ContainerSettings(instance_type=kind),
        TransformSettings(),
    )
    request = _request(job, "job", "s3://b/in")
    assert request["TransformOutput"]["KmsKeyId"] == "alias/k"
    assert ("VolumeKmsKeyId" in request["TransformResources"]) == takes


def test_half_a_vpc_is_refused_before_anything_is_sent(cloud: Cloud, tiny_bundle: Path, texts: Path) -> None:
    aws = AwsSettings.load({"role": ROLE, "subnets": "subnet-1"}, environment={})
    container = ContainerSettings.load({"image": IMAGE, "instance_type": "ml.c5.xlarge"}, environment={})
    with pytest.raises(UsageError, match="VPC needs both"):
        transform(Job(tiny_bundle, str(texts), OUT, aws, container, TransformSettings()), QUIET)
    assert cloud.asked() == []


def test_without_waiting_it_says_how_to_follow_and_what_stays(cloud: Cloud, tiny_bundle: Path, texts: Path) -> None:
    facts = run(tiny_bundle, texts, wait=False)
    assert changes(cloud) == ["CreateModel", "CreateTransformJob"]
    for told in ("describe-transform-job", "stop-transform-job", f"delete-model --model-name {facts['job']}"):
        assert told in facts["follow"]
    assert facts["remove"].endswith("--all")
    assert sent(cloud, "CreateTransformJob")["ModelClientConfig"]["InvocationsTimeoutInSeconds"] == 3600


def test_a_job_that_fails_tells_why(cloud: Cloud, tiny_bundle: Path, texts: Path) -> None:
    failed = {"TransformJobStatus": "Failed", "FailureReason": "ClientError: See job logs"}
    cloud.states(transform=[{"TransformJobStatus": "InProgress"}, failed])
    with pytest.raises(DeployError, match="See job logs") as raised:
        run(tiny_bundle, texts)
    assert "aws logs tail" in raised.value.hint
    assert "delete-model" in raised.value.hint


def test_ctrl_c_says_what_goes_on(cloud: Cloud, tiny_bundle: Path, texts: Path) -> None:
    cloud.states(transform=[{"TransformJobStatus": "InProgress"}])

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as raised:
        run(tiny_bundle, texts, clock=Clock(sleep=interrupted))
    assert "stop-transform-job" in raised.value.hint


def test_a_dry_run(cloud: Cloud, tiny_bundle: Path, texts: Path) -> None:
    facts = run(tiny_bundle, texts, dry=True)
    shown = [request["operation"] for request in facts["requests"]]
    assert shown[-3:] == ["CreateModel", "CreateTransformJob", "DeleteModel"]
    assert cloud.asked() == []


def test_input_that_is_there_already(cloud: Cloud, tiny_bundle: Path) -> None:
    assert run(tiny_bundle, "s3://mine/texts", dry=True)["input"] == "s3://mine/texts"


def test_a_bucket_that_is_not_there_is_told_before_anything_is_made(
    cloud: Cloud, tiny_bundle: Path, texts: Path
) -> None:
    for given, output in ((texts, "s3://nowhere/x"), ("s3://nowhere/texts", OUT)):
        with pytest.raises(ResourceMissing, match="no bucket 'nowhere'"):
            run(tiny_bundle, given, output=output)
    assert changes(cloud) == []


@pytest.mark.parametrize("line", ["{", "[1]", "3", "", "null", '""', '{"foo": 1}', '["a", "b"]'])
def test_a_bad_line_is_found_before_anything_is_paid_for(
    cloud: Cloud, tiny_bundle: Path, texts: Path, line: str
) -> None:
    texts.write_text(f'"fine"\n{line}\n"fine"\n')
    with pytest.raises(DataUnreadable, match="line 2"):
        run(tiny_bundle, texts)
    assert cloud.asked() == []


def test_more_input_that_cannot_be(cloud: Cloud, tiny_bundle: Path, texts: Path, tmp_path: Path) -> None:
    assert check_lines(texts, Limits(False, 1), 6) == 2
    texts.write_text(f'"fine"\n"{"so " * 400_000}"\n')
    with pytest.raises(DataUnreadable, match=r"line 2.*longer than a request"):
        check_lines(texts, Limits(False, 1), 1)
    texts.write_text('{"text": "a", "text_pair": "b"}\n')
    assert check_lines(texts, Limits(True, 1), 6) == 1
    with pytest.raises(DataUnreadable, match="line 1"):
        check_lines(texts, Limits(False, 1), 6)
    texts.write_text('"fine"\n"too"\n')
    with pytest.raises(DataNotFound):
        run(tiny_bundle, tmp_path / "absent")
    (tmp_path / "empty").touch()
    with pytest.raises(DataUnreadable, match="empty"):
        run(tiny_bundle, tmp_path / "empty")
    with pytest.raises(UsageError, match="100 MB"):
        run(tiny_bundle, texts, at_a_time=20)
    with pytest.raises(UsageError, match="not an address"):
        run(tiny_bundle, texts, output="answers/")
    assert cloud.asked() == []
