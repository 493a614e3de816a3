"""What AWS and its client library say went wrong, as errors of ours: what, why and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bertie.errors import AccessDenied, CredentialsRefused, DeployError, NameTaken, QuotaExceeded, ResourceMissing

_KEYS = "check the credentials: aws sts get-caller-identity"
_LOGIN = "log in again (aws sso login), or renew the session's token, and run the same command"
_QUOTA = "ask for more under Service Quotas -> Amazon SageMaker in the console, or take another --instance-type"
_ROLE = "check the role's name and account: aws iam get-role --role-name NAME"

CODES: dict[str, tuple[type[DeployError], str]] = {
    "ExpiredToken": (CredentialsRefused, _LOGIN),
    "ExpiredTokenException": (CredentialsRefused, _LOGIN),
    "RequestExpired": (CredentialsRefused, "set this machine's clock, or log in again"),
    "InvalidClientTokenId": (CredentialsRefused, _KEYS),
    "UnrecognizedClientException": (CredentialsRefused, _KEYS),
    "InvalidAccessKeyId": (CredentialsRefused, _KEYS),
    "SignatureDoesNotMatch": (CredentialsRefused, _KEYS),
    "AuthFailure": (CredentialsRefused, _KEYS),
    "AccessDenied": (AccessDenied, "ask for the permission that is named, or take other credentials (--profile)"),
    "AccessDeniedException": (AccessDenied, "ask for the permission that is named, or take other credentials"),
    "UnauthorizedOperation": (AccessDenied, "ask for the permission that is named, or take other credentials"),
    "ResourceLimitExceeded": (QuotaExceeded, _QUOTA),
    "LimitExceededException": (QuotaExceeded, _QUOTA),
    "ServiceQuotaExceededException": (QuotaExceeded, _QUOTA),
    "Throttling": (QuotaExceeded, "wait a minute and run the same command"),
    "ThrottlingException": (QuotaExceeded, "wait a minute and run the same command"),
    "TooManyRequestsException": (QuotaExceeded, "wait a minute and run the same command"),
    "SlowDown": (QuotaExceeded, "wait a minute and run the same command"),
    "NoSuchBucket": (ResourceMissing, "check --bucket; without it, a bucket is made"),
    "NoSuchEntity": (ResourceMissing, _ROLE),
    "ResourceNotFound": (ResourceMissing, ""),
    "ResourceNotFoundException": (ResourceMissing, ""),
    "ObjectNotFoundException": (ResourceMissing, ""),
    "ResourceInUse": (NameTaken, "choose another --name, or remove what has this one"),
    "BucketAlreadyExists": (NameTaken, "bucket names are shared by all accounts: give one of your own with --bucket"),
    "ModelError": (DeployError, "bertie deploy sagemaker-logs NAME shows what the container said"),
    "ModelNotReadyException": (DeployError, "it is still loading: ask again in a minute"),
    "PermanentRedirect": (DeployError, "the bucket is in another region: take its region with --region"),
    "IllegalLocationConstraintException": (DeployError, "the bucket is in another region: take it with --region"),
    "AuthorizationHeaderMalformed": (DeployError, "the bucket is in another region: take its region with --region"),
}
"""By the error code of the answer. Codes that are not here become a DeployError with AWS's own words."""

MESSAGES: tuple[tuple[str, type[DeployError], str], ...] = (
    (r"could not find|cannot find|not found|does not exist", ResourceMissing, ""),
    (r"already exist", NameTaken, "choose another --name, or remove what has this one"),
    (r"assume the role|Could not assume role|PassRole|role.*is invalid", ResourceMissing, _ROLE),
    (r"service limit|limit exceeded|quota", QuotaExceeded, _QUOTA),
)
"""SageMaker answers much with a ValidationException: there, its words decide."""


@contextmanager
def told(doing: str, region: str) -> Iterator[None]:
    """Turn every error of the client library inside the block into one of ours. `doing` is "create the endpoint x"."""
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 - an extra
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        raise answered(doing, error.response, region) from error
    except BotoCoreError as error:
        raise _unsent(doing, error, region) from error
    except Boto3Error as error:  # S3's transfers wrap what happened into a sentence
        inner = error.__cause__ or error.__context__
        if isinstance(inner, ClientError):
            raise answered(doing, inner.response, region) from error
        raise DeployError(f"cannot {doing}: {error}.") from error


def answered(doing: str, response: dict[str, Any], region: str) -> DeployError:
    """Return the error for an answer that says no."""
    said = response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", "")).strip()
    if not message or message.startswith("<"):  # a page, such as a proxy's
        message = "no reason was given"
    kind, hint = CODES.get(code, (None, ""))
    if kind is None:
        found = ((kind, hint) for pattern, kind, hint in MESSAGES if re.search(pattern, message, re.IGNORECASE))
        kind, hint = next(found, (DeployError, ""))
    if code == "301":  # an answer to HEAD has no body
        hint = "the bucket is in another region: take its region with --region"
    if code in {"404", "NoSuchKey"}:
        kind = ResourceMissing
    if code == "403":
        kind, hint = AccessDenied, "it may belong to another account, or a policy forbids it"
    named = f" ({code})" if code and not code.isdigit() else ""
    return kind(f"cannot {doing} in {region}: {message.rstrip('.')}{named}.", hint=hint)


def _unsent(doing: str, error: Exception, region: str) -> DeployError:
    """Return the error for a request that got no answer."""
    kind = type(error).__name__
    if kind in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return no_credentials()
    if kind in {"TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"}:
        return CredentialsRefused(f"cannot {doing}: the login has expired.", hint=_LOGIN)
    if kind == "ParamValidationError":
        return DeployError(f"cannot {doing}: the request is not valid: {error}.")
    hint = f"check the network and that the region {region} is right"
    return DeployError(f"cannot {doing}: there was no answer: {str(error).rstrip('.')}.", hint=hint)


def no_credentials() -> CredentialsRefused:
    """Return the error for a machine without credentials."""
    return CredentialsRefused(
        "there are no AWS credentials here.",
        expected="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws, or a role of this machine",
        hint="aws configure, aws sso login, or --profile NAME; --dry-run needs none",
    )
