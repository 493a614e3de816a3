from __future__ import annotations

import builtins
from typing import Any

import pytest

from bertie.deploy.aws.session import open_session, role_arn
from bertie.deploy.aws.settings import AwsSettings
from bertie.errors import AccessDenied, CredentialsRefused, DependencyMissing, ResourceMissing, UsageError
from tests.deploy.aws.cloud import ACCOUNT, REGION, ROLE, Cloud

ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"


def settings(**given: Any) -> AwsSettings:
    return AwsSettings.load(given, environment={})


def test_region_and_account_are_found(cloud: Cloud) -> None:
    session = open_session(settings())
    assert (session.region, session.account, session.partition) == (REGION, ACCOUNT, "aws")
    assert open_session(settings(region="cn-north-1")).domain == "amazonaws.com.cn"


def test_without_credentials_nothing_is_asked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsRefused, match="no AWS credentials"):
        open_session(settings())
    assert open_session(settings(), dry=True).account == "ACCOUNT"
    assert cloud.asked() == []


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_credentials_that_are_not_taken(cloud: Cloud, code: str) -> None:
    cloud.fail([{"operation": "GetCallerIdentity", "code": code, "status": 403}])
    with pytest.raises(CredentialsRefused, match=code):
        open_session(settings())


@pytest.mark.parametrize(("region", "hint"), [("eu-west-11", "eu-west-1"), ("", "--region")])
def test_a_region_that_is_not_there(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, region: str, hint: str) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(UsageError) as raised:
        open_session(settings(region=region or None))
    assert hint in raised.value.hint
    assert cloud.asked() == []


def test_a_profile_that_is_not_there(cloud: Cloud) -> None:
    with pytest.raises(UsageError, match="nobody"):
        open_session(settings(profile="nobody"))


def test_a_role_by_name_and_by_arn(cloud: Cloud) -> None:
    session = open_session(settings())
    assert role_arn(session, ROLE) == ARN
    assert role_arn(session, ARN) == ARN
    dry = open_session(settings(role=ARN), dry=True)
    assert role_arn(dry, "service-role/x") == f"arn:aws:iam::{ACCOUNT}:role/service-role/x"


def test_roles_that_cannot_be(cloud: Cloud) -> None:
    session = open_session(settings())
    with pytest.raises(ResourceMissing, match="no role 'absent'"):
        role_arn(session, "absent")
    for wrong in ("arn:aws:iam::1:role/x", "a role", None):
        with pytest.raises(UsageError):
            role_arn(session, wrong)


def test_one_who_may_not_read_roles_goes_on(cloud: Cloud) -> None:
    session = open_session(settings())
    cloud.fail([{"operation": "GetRole", "code": "AccessDenied", "status": 403}])
    assert role_arn(session, "absent") == f"arn:aws:iam::{ACCOUNT}:role/absent"


def test_without_the_extra(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("boto3"):
            raise ImportError("No module named 'boto3'", name="boto3")
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyMissing) as raised:
        open_session(settings())
    assert "bertie[sagemaker]" in raised.value.hint


def test_the_errors_keep_apart() -> None:
    assert not issubclass(AccessDenied, CredentialsRefused)


@pytest.mark.parametrize(
    "wrong",
    [{"tags": "team"}, {"tags": "bertie:name=x"}, {"tags": ",".join(f"k{i}=v" for i in range(50))}, {"bucket": "B"}],
)
def test_settings_that_aws_would_refuse(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        settings(**wrong)


def test_settings_become_parts_of_requests() -> None:
    aws = settings(tags="team=search, env = test", subnets="subnet-1,subnet-2", security_groups="sg-1")
    assert aws.tag_pairs() == {"team": "search", "env": "test"}
    assert aws.network() == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
    assert settings().network() is None
