"""A connection to one region of one AWS account.

The client library (boto3) is an extra and is imported when a session is opened. It honours AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

from bertie.deploy.aws.failures import no_credentials, told
from bertie.deploy.aws.settings import AwsSettings
from bertie.errors import AccessDenied, ResourceMissing, UsageError, nearest, need

ATTEMPTS = 8
"""Tries of one request; the waits between them double up to 20 s. Throttling is answered so."""
UNKNOWN_ACCOUNT = "ACCOUNT"
"""What a dry run, which asks nobody, writes where the number of the account belongs."""


@dataclass
class Session:
    """A region and the credentials for it. A dry one has no credentials and sends nothing."""

    region: str
    account: str
    dry: bool
    boto: Any = field(repr=False)
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)
    flags: str = ""
    """Those with which a command that is shown looks in the same place."""

    def client(self, service: str) -> Any:
        """Return the client of a service. Throttled requests are repeated with growing waits."""
        if service not in self._clients:
            from botocore.config import Config  # noqa: PLC0415 - an extra

            config = Config(
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                connect_timeout=10,
                read_timeout=70,  # an endpoint may take 60 s for an answer
            )
            secrets = {"aws_access_key_id": "none", "aws_secret_access_key": "none"} if self.dry else {}
            with told(f"reach {service}", self.region):
                self._clients[service] = self.boto.client(service, config=config, **secrets)
        return self._clients[service]

    @property
    def partition(self) -> str:
        """The part of AWS that the region is in: aws, aws-cn, aws-us-gov."""
        return str(self.boto.get_partition_for_region(self.region))

    @property
    def domain(self) -> str:
        """The end of the names of this partition's hosts."""
        return "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"


def open_session(settings: AwsSettings, *, dry: bool = False) -> Session:
    """Find region and credentials and try them. A dry session needs no credentials and asks nobody.

    Raises UsageError without a region or with one that does not exist, CredentialsRefused, DependencyMissing.
    """
    try:
        import boto3  # noqa: PLC0415 - an extra, and slow
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError as error:
        raise need("sagemaker", error) from error
    try:
        boto = boto3.Session(profile_name=settings.profile)
        region = settings.region or os.environ.get("AWS_REGION") or boto.region_name
        boto = boto3.Session(profile_name=settings.profile, region_name=_checked(region, boto))
    except BotoCoreError as error:
        raise UsageError(f"{error}.", hint="aws configure list-profiles shows them") from error
    account = _account_of(settings.role) or UNKNOWN_ACCOUNT
    session = Session(str(region), account, dry, boto, flags=settings.flags(str(region)))
    if dry:
        return session
    with told("read the credentials", session.region):
        if boto.get_credentials() is None:
            raise no_credentials()
        session.account = str(session.client("sts").get_caller_identity()["Account"])
    return session


def role_arn(session: Session, role: str | None) -> str:
    """Return the ARN of a role given by name or ARN, and see that it is there.

    A user who may not read roles gets the ARN unseen. Raises UsageError, ResourceMissing.
    """
    if not role:
        raise UsageError(
            "no role is given.",
            expected="--role NAME or ARN: an IAM role that SageMaker may take on (trusts sagemaker.amazonaws.com)",
        )
    name = role.rsplit("/", 1)[-1]
    arn = role if role.startswith("arn:") else f"arn:{session.partition}:iam::{session.account}:role/{role}"
    if not re.fullmatch(r"arn:[\w-]+:iam::(\d{12}|ACCOUNT):role/[\w+=,.@/-]+", arn):
        raise UsageError(f"{role!r} is not a role.", expected="a name, or arn:aws:iam::123456789012:role/NAME")
    if session.dry:
        return arn
    try:
        with told(f"find the role {name}", session.region):
            return str(session.client("iam").get_role(RoleName=name)["Role"]["Arn"])
    except AccessDenied:
        return arn
    except ResourceMissing as error:
        raise ResourceMissing(
            f"there is no role {name!r} in the account {session.account}.",
            hint="aws iam list-roles --query 'Roles[].RoleName' shows those there are",
        ) from error


def _checked(region: str | None, boto: Any) -> str:
    if not region:
        raise UsageError("no AWS region is chosen.", hint="add --region eu-west-1, or set AWS_REGION")
    known = [
        name
        for partition in boto.get_available_partitions()
        for name in boto.get_available_regions("sagemaker", partition)
    ]
    if region not in known:
        hint = nearest(region, known) or "aws account list-regions shows them"
        raise UsageError(
            f"there is no AWS region {region!r} with SageMaker.", hint=f"{hint} (a new one needs a new boto3)"
        )
    return region


def _account_of(role: str | None) -> str | None:
    found = re.match(r"arn:[\w-]+:iam::(\d{12}):", role or "")
    return found[1] if found else None
