from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bertie.deploy.aws.calls import Caller
from bertie.deploy.aws.session import open_session
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.store import PART_BYTES, Store, check_places, key_of, open_store, split_uri
from bertie.errors import AccessDenied, DataNotFound, DeployError, ResourceMissing, UsageError
from bertie.talk import Talk
from tests.deploy.aws.cloud import ACCOUNT, REGION, Cloud

USUAL = f"sagemaker-{REGION}-{ACCOUNT}"
QUIET = Talk(quiet=True)


def store(*, dry: bool = False, **given: Any) -> Store:
    settings = AwsSettings.load(given, environment={})
    return open_store(Caller(open_session(settings, dry=dry)), settings)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "large.bin"
    path.write_bytes(b"x" * (2 * PART_BYTES + 1))
    return path


def test_the_usual_bucket_is_made_once(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    first, second = store(), store()
    uri = first.put_file(tmp_path / "a", key_of("n", "a"), "n", QUIET)
    assert uri == f"s3://{USUAL}/bertie/n/a"
    assert cloud.operations() == ["CreateBucket", "PutObject"]
    assert [made.remove for made in first.caller.made] == [f"aws s3 rb s3://{USUAL}", f"aws s3 rm {uri}"]
    assert not second.caller.made
    tags = cloud.client("s3").get_object_tagging(Bucket=USUAL, Key="bertie/n/a")["TagSet"]
    assert tags == [{"Key": "bertie:name", "Value": "n"}]


def test_the_same_content_is_not_sent_again_and_other_content_is(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("hello")
    there = store()
    for _ in range(2):
        there.put_file(tmp_path / "a", "a", "n", QUIET)
    assert cloud.operations().count("PutObject") == 1
    (tmp_path / "a").write_text("other")
    there.put_file(tmp_path / "a", "a", "n", QUIET)
    assert cloud.operations().count("PutObject") == 2
    assert there.get_file("a", tmp_path / "back").read_text() == "other"


def test_a_large_file_goes_in_parts(cloud: Cloud, large: Path, tmp_path: Path) -> None:
    there = store(kms_key="alias/mine")
    there.put_file(large, "large", "n", QUIET)
    parts = ["CreateMultipartUpload", *["UploadPart"] * 3, "CompleteMultipartUpload"]
    assert cloud.operations() == ["CreateBucket", *parts]
    assert there.get_file("large", tmp_path / "back").read_bytes() == large.read_bytes()
    assert cloud.client("s3").head_object(Bucket=USUAL, Key="large")["ServerSideEncryption"] == "aws:kms"


@pytest.mark.parametrize("fault", [{"code": "AccessDenied", "status": 403}, {"drop": True, "times": 99}])
def test_an_upload_that_breaks_leaves_nothing(
    cloud: Cloud, large: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setattr("bertie.deploy.aws.session.ATTEMPTS", 1)
    there = store()
    cloud.fail([{"operation": "UploadPart", "skip": 1, **fault}])
    with pytest.raises(DeployError, match=r"large\.bin"):
        there.put_file(large, "large", "n", QUIET)
    assert "AbortMultipartUpload" in cloud.operations()
    assert cloud.nothing_left()
    assert [made.what for made in there.caller.made] == [f"bucket {USUAL}"]


def test_a_bucket_can_wait_for_its_first_file(cloud: Cloud, tmp_path: Path) -> None:
    settings = AwsSettings.load({}, environment={})
    there = open_store(Caller(open_session(settings)), settings, make=False)
    assert cloud.operations() == []
    (tmp_path / "a").write_text("hello")
    there.put_file(tmp_path / "a", "a", "n", QUIET)
    assert cloud.operations() == ["CreateBucket", "PutObject"]


def test_parts_that_boto_could_not_abort_are_swept(cloud: Cloud, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertie.deploy.aws.session.ATTEMPTS", 1)
    there = store()
    cloud.fail(
        [
            {"operation": "UploadPart", "skip": 1, "code": "AccessDenied", "status": 403},
            {"operation": "AbortMultipartUpload", "code": "InternalError", "status": 500},
        ]
    )
    with pytest.raises(AccessDenied):
        there.put_file(large, "large", "n", QUIET)
    assert cloud.operations().count("AbortMultipartUpload") == 2
    assert cloud.nothing_left()


UPLOAD = """
import sys
from pathlib import Path
from bertie.deploy.aws.calls import Caller
from bertie.deploy.aws.session import open_session
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.store import open_store
from bertie.errors import Interrupted
from bertie.talk import Talk

settings = AwsSettings()
caller = Caller(open_session(settings))
try:
    with caller.accounted():
        open_store(caller, settings).put_file(Path(sys.argv[1]), "large", "n", Talk(quiet=True))
except Interrupted as error:
    sys.exit(f"{error}")
"""


def test_ctrl_c_in_an_upload_leaves_nothing(cloud: Cloud, large: Path) -> None:
    cloud.fail([{"operation": "UploadPart", "skip": 1, "slow": 2.0}])
    program = [sys.executable, "-c", UPLOAD, str(large)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "src"})
    while cloud.operations().count("UploadPart") < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1, said
    assert said.startswith("interrupted.")
    assert f"bucket {USUAL}" in said
    assert cloud.nothing_left()


def test_a_folder_is_there_as_a_whole_or_not_at_all(cloud: Cloud, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name in ("a", "deep/b", "deep/c"):
        (folder / name).write_text(name)
    there = store()
    cloud.fail([{"operation": "PutObject", "skip": 2, "code": "AccessDenied", "status": 403}])
    with pytest.raises(AccessDenied):
        there.put_folder(folder, "f", "n", QUIET)
    assert cloud.nothing_left()
    assert len(there.caller.made) == 1, "the bucket alone"
    assert there.put_folder(folder, "f/", "n", QUIET) == f"s3://{USUAL}/f/"
    assert there.keys("f/") == ["f/a", "f/deep/b", "f/deep/c"]


def test_a_dry_run_shows_the_parts(cloud: Cloud, large: Path) -> None:
    parts = ["CreateMultipartUpload", *["UploadPart"] * 3, "CompleteMultipartUpload"]
    for there, shown in ((store(dry=True), ["CreateBucket", *parts]), (store(dry=True, bucket="mine"), parts)):
        there.put_file(large, "large", "n", QUIET)
        assert [request.operation for request in there.caller.requests] == shown
    assert cloud.asked() == []


def test_a_bucket_in_another_region(cloud: Cloud) -> None:
    import boto3

    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    far = boto3.client("s3", endpoint_url=cloud.url, region_name="us-west-2", **keys)
    far.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    caller = Caller(open_session(AwsSettings.load({}, environment={})))
    asks = (lambda: store(bucket="far-away"), lambda: check_places(caller, None, "s3://far-away/texts"))
    for ask in asks:
        with pytest.raises(DeployError, match="us-west-2") as raised:
            ask()
        assert "--region us-west-2" in raised.value.hint


def test_places_that_the_user_names(cloud: Cloud) -> None:
    cloud.bucket("mine")
    caller = Caller(open_session(AwsSettings.load({}, environment={})))
    check_places(caller, "s3://mine/a", None, "s3://mine/b")
    with pytest.raises(ResourceMissing, match="no bucket 'not-there'"):
        check_places(caller, "s3://mine/a", "s3://not-there/a")
    with pytest.raises(UsageError, match="not an address"):
        check_places(caller, "mine/a")
    cloud.fail([{"operation": "HeadBucket", "code": "403", "status": 403}])
    check_places(caller, "s3://mine/a")  # the role may see what the user may not
    asked = cloud.asked()
    check_places(Caller(open_session(AwsSettings.load({}, environment={}), dry=True)), "s3://not-there/a")
    assert cloud.asked() == asked


def test_a_bucket_in_another_region_as_s3_redirects(cloud: Cloud) -> None:
    cloud.fail([{"operation": "HeadBucket", "code": "301", "status": 301, "times": 9}])
    with pytest.raises(DeployError) as raised:
        store(bucket="far-away")
    assert "another region" in raised.value.hint


def test_buckets_that_cannot_be_used(cloud: Cloud) -> None:
    with pytest.raises(ResourceMissing) as raised:
        store(bucket="not-there")
    assert "aws s3 mb s3://not-there" in raised.value.hint
    cloud.fail([{"operation": "HeadBucket", "code": "403", "status": 403}])
    with pytest.raises(AccessDenied) as refused:
        store()
    assert "another account" in refused.value.hint
    assert "CreateBucket" not in cloud.operations()


def test_addresses() -> None:
    assert split_uri("s3://bucket/a/b") == ("bucket", "a/b")
    assert split_uri("s3://bucket") == ("bucket", "")
    with pytest.raises(UsageError):
        split_uri("a/file")


def test_files_that_are_not_there(cloud: Cloud, tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        store().put_file(tmp_path / "absent", "a", "n", QUIET)
    with pytest.raises(DataNotFound):
        store().put_folder(tmp_path / "absent", "a", "n", QUIET)
    with pytest.raises(ResourceMissing):
        store().get_file("absent", tmp_path / "back")
