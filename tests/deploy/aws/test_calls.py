from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from bertie.deploy.aws.calls import Caller, Made, StillGoingOn, hidden
from bertie.deploy.aws.session import open_session
from bertie.deploy.aws.settings import AwsSettings
from bertie.errors import (
    AccessDenied,
    BertieError,
    DeployError,
    Interrupted,
    NameTaken,
    QuotaExceeded,
    ResourceMissing,
    UsageError,
)
from tests.deploy.aws.cloud import ACCOUNT, ROLE, Cloud

MODEL = {
    "ModelName": "m",
    "ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}",
    "PrimaryContainer": {"Image": "image", "Environment": {"HF_TOKEN": "hf_123", "MAX_TOKENS": "9"}},
}


def caller(*, dry: bool = False, show: bool = False) -> Caller:
    return Caller(open_session(AwsSettings.load({}, environment={}), dry=dry), show=show)


def make(of: Caller, **changed: Any) -> dict[str, Any]:
    return of.send("sagemaker", "CreateModel", MODEL | changed, "make the model m", makes=Made("model m", "remove m"))


def test_a_request_is_sent_kept_and_its_secrets_hidden(cloud: Cloud) -> None:
    real = caller()
    assert make(real)["ModelArn"].endswith("/m")
    assert [made.what for made in real.made] == ["model m"]
    assert real.requests[0].arguments["PrimaryContainer"]["Environment"] == {"HF_TOKEN": "***", "MAX_TOKENS": "9"}
    assert cloud.operations() == ["CreateModel"]


class Broken:
    """A client whose requests never come back."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def create_model(self, **_: object) -> None:
        raise self.error


def client_error(status: int) -> ClientError:
    facts: Any = {"Error": {"Code": "X", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(facts, "CreateModel")


@pytest.mark.parametrize(
    ("error", "listed"),
    [
        (KeyboardInterrupt(), True),
        (ConnectionClosedError(endpoint_url="http://x"), True),
        (client_error(500), True),
        (client_error(400), False),
    ],
)
def test_what_may_have_been_made_is_listed_where_no_answer_came(
    cloud: Cloud, error: BaseException, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = caller()
    monkeypatch.setattr(type(one.session), "client", lambda *_: Broken(error))
    with pytest.raises(BertieError) as raised, one.accounted():
        make(one)
    assert [made.what for made in one.made] == (["model m, perhaps"] if listed else [])
    assert ("  model m, perhaps: remove m" in str(raised.value)) == listed


def test_what_is_in_use_is_not_listed_for_removal(cloud: Cloud) -> None:
    for error in (KeyboardInterrupt(), StillGoingOn("it takes long.", hint="wait")):
        one = caller(dry=True)
        one.made.append(Made("model m", "remove m"))
        for in_use in (True, False):
            with pytest.raises(BertieError) as raised, one.accounted("it goes on", in_use=in_use):
                raise error
            assert ("remove m" in raised.value.hint) == (not in_use)
            assert not in_use or raised.value.hint == "it goes on"


@pytest.mark.parametrize("kind", [{"dry": True}, {"show": True}])
def test_a_dry_one_sends_nothing(cloud: Cloud, kind: dict[str, bool]) -> None:
    dry = caller(**kind)
    assert make(dry) == {}
    assert [request.operation for request in dry.requests] == ["CreateModel"]
    assert not dry.made
    assert cloud.operations() == []


@pytest.mark.parametrize("dry", [True, False])
def test_arguments_are_checked_against_the_services_description(cloud: Cloud, dry: bool) -> None:
    with pytest.raises(DeployError, match="not valid") as raised:
        caller(dry=dry).send("sagemaker", "CreateModel", {"ModelNam": "m"}, "make the model m")
    assert "ModelNam" in str(raised.value)
    assert cloud.operations() == []


def test_throttling_is_repeated_with_waits(cloud: Cloud) -> None:
    cloud.fail([{"operation": "CreateModel", "code": "ThrottlingException", "message": "Rate exceeded", "times": 2}])
    started = time.monotonic()
    make(caller())
    assert cloud.operations() == ["CreateModel"] * 3
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("ResourceLimitExceeded", "The account-level service limit is 0 Instances", QuotaExceeded),
        ("AccessDeniedException", "User x is not authorized to perform sagemaker:CreateModel", AccessDenied),
        ("ValidationException", "Could not assume role arn:aws:iam::1:role/x", ResourceMissing),
        ("ValidationException", 'Cannot create already existing model "m"', NameTaken),
        ("ValidationException", "Could not find model", ResourceMissing),
        ("SomethingNew", "never heard of", DeployError),
    ],
)
def test_each_answer_has_its_error(cloud: Cloud, code: str, message: str, kind: type[DeployError]) -> None:
    cloud.fail([{"operation": "CreateModel", "code": code, "message": message}])
    with pytest.raises(kind) as raised:
        make(caller())
    assert type(raised.value) is kind
    assert message in raised.value.what
    assert raised.value.hint or kind in {DeployError, ResourceMissing}


def test_a_connection_that_breaks(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertie.deploy.aws.session.ATTEMPTS", 1)
    real = caller()
    cloud.fail([{"operation": "CreateModel", "drop": True}])
    with pytest.raises(DeployError, match="no answer") as raised:
        make(real)
    assert "eu-west-1" in raised.value.hint


def test_an_error_lists_what_was_made_and_how_to_remove_it(cloud: Cloud) -> None:
    real = caller()
    cloud.fail([{"operation": "CreateModel", "code": "ResourceLimitExceeded", "message": "limit", "skip": 1}])
    make(real)
    with pytest.raises(QuotaExceeded) as raised, real.accounted():
        make(real, ModelName="n")
    assert "model m: remove m" in raised.value.hint
    assert "Quotas" in raised.value.hint


def test_an_error_before_anything_was_made_stays_as_it_is(cloud: Cloud) -> None:
    with pytest.raises(UsageError) as raised, caller().accounted():
        raise UsageError("wrong", hint="right")
    assert raised.value.hint == "right"


def test_ctrl_c_says_what_goes_on(cloud: Cloud) -> None:
    real = caller()
    make(real)
    with pytest.raises(Interrupted) as raised, real.accounted("it goes on"):
        raise KeyboardInterrupt
    assert raised.value.what == "stopped waiting."
    assert raised.value.hint.splitlines()[0] == "it goes on"
    assert "model m: remove m" in raised.value.hint
    with pytest.raises(Interrupted, match="nothing was made"), caller().accounted():
        raise KeyboardInterrupt


def test_what_is_hidden() -> None:
    names = ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "api_key", "DB_PASSWORD"]
    plain = ["max_tokens", "tokenizer", "KmsKeyId", "TargetKey"]
    shown = hidden(dict.fromkeys(names + plain, "x") | {"list": [{"token": "x"}]})
    assert {name for name, value in shown.items() if value == "***"} == set(names)
    assert shown["list"] == [{"token": "***"}]
