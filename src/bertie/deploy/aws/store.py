"""Files and folders in S3. What is interrupted leaves nothing behind; what is there already is not sent again."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.deploy.aws.calls import Caller, Made
from bertie.deploy.aws.failures import told
from bertie.deploy.aws.session import Session
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.aws.tags import as_query, tags
from bertie.disk import sha256
from bertie.errors import AccessDenied, DataNotFound, DeployError, ResourceMissing, UsageError
from bertie.talk import Talk

PART_BYTES = 8 * 2**20
"""A larger file goes in parts of this size, several at a time."""
DIGEST = "bertie-sha256"
"""The name under which an object keeps its own hash."""


@dataclass
class Store:
    """A bucket in the session's region, and how what is put there is encrypted and tagged."""

    caller: Caller
    bucket: str
    kms_key: str | None = None
    missing: bool = False
    """Whether the bucket has yet to be made."""

    def uri(self, key: str) -> str:
        """Return the address of a key."""
        return f"s3://{self.bucket}/{key}"

    def put_file(self, path: Path, key: str, name: str, talk: Talk) -> str:
        """Upload a file for `name`; return its address. Nothing is sent if the same content is there already.

        Raises DataNotFound, DeployError.
        """
        if not path.is_file():
            raise DataNotFound(f"there is no file {path}.", hint="check the path")
        self.make()
        extra: dict[str, Any] = {"Metadata": {DIGEST: sha256(path)}, "Tagging": as_query(tags(name))}
        if self.kms_key:
            extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key}
        if self.caller.dry:
            self._show(path, key, extra)
        elif self._digest(key) != extra["Metadata"][DIGEST]:
            self._send(path, key, extra, talk)
            self.caller.made.append(Made(self.uri(key), f"aws s3 rm {self.uri(key)}"))
        return self.uri(key)

    def make(self) -> None:
        """Make the bucket, if it is missing."""
        if not self.missing:
            return
        region = self.caller.session.region
        # The oldest region is the one that may not be named.
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        made = Made(f"bucket {self.bucket}", f"aws s3 rb s3://{self.bucket}")
        doing = f"make the bucket {self.bucket}"
        self.caller.send("s3", "CreateBucket", {"Bucket": self.bucket, **place}, doing, makes=made)
        self.missing = False

    def put_folder(self, folder: Path, prefix: str, name: str, talk: Talk) -> str:
        """Upload all files of a folder below a prefix; return its address. If one fails, those sent are removed."""
        if not folder.is_dir():
            raise DataNotFound(f"there is no folder {folder}.", hint="check the path")
        before = len(self.caller.made)
        try:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                self.put_file(path, f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}", name, talk)
        except BaseException:
            for made in self.caller.made[before:]:
                with suppress(DeployError):
                    self.remove(made.what.removeprefix(f"s3://{self.bucket}/"))
                    self.caller.unmade(made.what)
            raise
        return self.uri(prefix.rstrip("/") + "/")

    def get_file(self, key: str, path: Path) -> Path:
        """Download an object into a file. Raises ResourceMissing, DeployError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with told(f"download {self.uri(key)}", self.caller.session.region):
            self.caller.session.client("s3").download_file(self.bucket, key, str(path))
        return path

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix."""
        arguments = {"Bucket": self.bucket, "Prefix": prefix}
        pages = self.caller.pages("s3", "ListObjectsV2", arguments, f"list {self.uri(prefix)}")
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        self.caller.send("s3", "DeleteObject", {"Bucket": self.bucket, "Key": key}, f"remove {self.uri(key)}")

    def _digest(self, key: str) -> str | None:
        arguments = {"Bucket": self.bucket, "Key": key}
        try:
            found = self.caller.read("s3", "HeadObject", arguments, f"look for {self.uri(key)}")
        except DeployError:
            return None  # not there; or one who may write but not read: the upload itself says what is wrong
        return str(found.get("Metadata", {}).get(DIGEST))

    def _show(self, path: Path, key: str, extra: dict[str, Any]) -> None:
        """Note the requests of an upload that a dry run does not make."""
        size, there = path.stat().st_size, {"Bucket": self.bucket, "Key": key}
        doing = f"upload {path.name}"
        if size < PART_BYTES:
            self.caller.send("s3", "PutObject", {**there, "ContentLength": size, **extra}, doing)
            return
        self.caller.send("s3", "CreateMultipartUpload", {**there, **extra}, doing)
        for part in range(-(-size // PART_BYTES)):
            length = min(PART_BYTES, size - part * PART_BYTES)
            of = {**there, "UploadId": "UPLOAD", "PartNumber": part + 1, "ContentLength": length}
            self.caller.send("s3", "UploadPart", of, doing)
        self.caller.send("s3", "CompleteMultipartUpload", {**there, "UploadId": "UPLOAD"}, doing)

    def _send(self, path: Path, key: str, extra: dict[str, Any], talk: Talk) -> None:
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - an extra

        client = self.caller.session.client("s3")
        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
        doing, megabytes = f"upload {path.name} to {self.uri(key)}", max(1, path.stat().st_size // 10**6)
        sent = 0
        try:
            with told(doing, self.caller.session.region), talk.progress(f"upload {path.name}, MB", megabytes) as bar:

                def count(amount: int) -> None:
                    nonlocal sent
                    before, sent = sent, sent + amount
                    bar.advance(sent // 10**6 - before // 10**6)

                client.upload_file(str(path), self.bucket, key, ExtraArgs=extra, Config=config, Callback=count)
                bar.finish()
        except BaseException:
            self._sweep(client, key)
            raise

    def _sweep(self, client: Any, key: str) -> None:
        """Remove the parts of an upload that was broken off: they are not seen, but are paid for."""
        with suppress(Exception):  # the reason why the upload broke may break this too, and it is what matters
            for upload in client.list_multipart_uploads(Bucket=self.bucket, Prefix=key).get("Uploads", []):
                if upload["Key"] == key:
                    client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])


def open_store(caller: Caller, settings: AwsSettings, *, make: bool = True) -> Store:
    """Return the user's bucket, or the account's usual one for SageMaker.

    The usual one is made if it is missing: at once, or with the first file if not `make`. A dry run, which cannot look,
    takes it for missing.
    Raises DeployError if it is in another region or belongs to another account, ResourceMissing for a missing --bucket.
    """
    session = caller.session
    bucket = settings.bucket or usual_bucket(session)
    store = Store(caller, bucket, settings.kms_key)
    if session.dry:
        store.missing = not settings.bucket
        return store
    # A bucket with the usual name that somebody else made before us would get the user's model.
    owner = {} if settings.bucket else {"ExpectedBucketOwner": session.account}
    try:
        found = caller.read("s3", "HeadBucket", {"Bucket": bucket, **owner}, f"use the bucket {bucket}")
    except ResourceMissing as error:
        if settings.bucket:
            raise _no_bucket(session, bucket) from error
        store.missing = True
        if make:
            store.make()
        return store
    _refuse_elsewhere(session, bucket, found)
    return store


def check_places(caller: Caller, *uris: str | None) -> None:
    """Look, before anything is made, whether the buckets are there that the user names for what is read and written.

    One that this user may not see is left to the role. Raises UsageError for what is no address, ResourceMissing, and
    DeployError for a bucket in another region. Nothing is asked in a dry run.
    """
    session = caller.session
    for bucket in sorted({split_uri(uri)[0] for uri in uris if uri}):
        if session.dry:
            continue
        try:
            found = caller.read("s3", "HeadBucket", {"Bucket": bucket}, f"look at the bucket {bucket}")
        except AccessDenied:
            continue
        except ResourceMissing as error:
            raise _no_bucket(session, bucket) from error
        _refuse_elsewhere(session, bucket, found)


def _refuse_elsewhere(session: Session, bucket: str, found: dict[str, Any]) -> None:
    where = str(found.get("BucketRegion") or session.region)
    if where != session.region:
        raise DeployError(
            f"the bucket {bucket!r} is in {where}, and what uses it is to run in {session.region}.",
            hint=f"take a bucket in {session.region}, or --region {where}",
        )


def _no_bucket(session: Session, bucket: str) -> ResourceMissing:
    return ResourceMissing(f"there is no bucket {bucket!r}.", hint=f"aws s3 mb s3://{bucket} --region {session.region}")


def usual_bucket(session: Session) -> str:
    """Return the name that SageMaker's own tools give to the bucket of an account in a region."""
    return f"sagemaker-{session.region}-{session.account}"


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an address in S3. Raises UsageError."""
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", uri)
    if not found:
        raise UsageError(f"{uri!r} is not an address in S3.", expected="s3://BUCKET/KEY")
    return found[1], found[2] or ""


def key_of(name: str, *rest: str) -> str:
    """Return the key under which things of a name lie in a bucket; `delete --all` looks there."""
    return "/".join(["bertie", name, *rest])
