"""Every request that changes something goes through here: sent, or in a dry run only kept; what it made is listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bertie.deploy.aws.failures import told
from bertie.deploy.aws.session import Session
from bertie.errors import BertieError, DeployError, Interrupted

SECRET = re.compile(r"secret|password|credential|api_?keys?|access_?key|token(?!s|iz)", re.IGNORECASE)
HIDDEN = "***"


@dataclass(frozen=True)
class Request:
    """One request, its secrets hidden."""

    service: str
    operation: str
    arguments: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"service": self.service, "operation": self.operation, "arguments": self.arguments}


@dataclass(frozen=True)
class Made:
    """Something that now exists and may cost money, with the command that removes it."""

    what: str
    """Kind and name, such as `endpoint intents`."""
    remove: str


class StillGoingOn(DeployError):
    """What was waited for takes longer than it may."""


@dataclass
class Caller:
    """Sends requests, one after the other. A dry one checks their arguments and keeps them, and sends nothing."""

    session: Session
    show: bool = False
    """Send nothing that changes anything, though there are credentials to look around with."""
    requests: list[Request] = field(default_factory=list)
    """All that were sent, or would be, in order; uploads of files in a dry run alone."""
    made: list[Made] = field(default_factory=list)
    """What exists because of them, in order."""

    @property
    def dry(self) -> bool:
        """Whether nothing is sent that changes anything."""
        return self.session.dry or self.show

    def send(
        self, service: str, operation: str, arguments: Mapping[str, Any], doing: str, *, makes: Made | None = None
    ) -> dict[str, Any]:
        """Send one request that changes something, such as `CreateModel`; return the answer, {} in a dry run.

        The arguments are checked against the service's own description in both cases. What it `makes` is listed also
        where no answer comes, after Ctrl-C for instance: it may exist then. Raises DeployError.
        """
        client = self.session.client(service)
        self.requests.append(Request(service, operation, hidden(dict(arguments))))
        with told(doing, self.session.region):
            if self.dry:
                _validate(client, operation, dict(arguments))
                return {}
            try:
                answer: dict[str, Any] = getattr(client, _method(operation))(**arguments)
            except BaseException as error:
                if makes and not _refused(error):
                    self.made.append(Made(f"{makes.what}, perhaps", makes.remove))
                raise
        if makes:
            self.made.append(makes)
        return answer

    def read(self, service: str, operation: str, arguments: Mapping[str, Any], doing: str) -> dict[str, Any]:
        """Send one request that changes nothing. Not for dry runs. Raises DeployError."""
        with told(doing, self.session.region):
            answer: dict[str, Any] = getattr(self.session.client(service), _method(operation))(**arguments)
        return answer

    def pages(self, service: str, operation: str, arguments: Mapping[str, Any], doing: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list. Not for dry runs. Raises DeployError."""
        with told(doing, self.session.region):
            yield from self.session.client(service).get_paginator(_method(operation)).paginate(**arguments)

    def unmade(self, what: str) -> None:
        """Forget something that was removed again."""
        self.made = [made for made in self.made if made.what != what]

    @contextmanager
    def accounted(self, goes_on: str = "", *, in_use: bool = False) -> Iterator[None]:
        """Add to every error inside the block, and to Ctrl-C, the list of what was made and how to remove it.

        `goes_on` says what continues in the cloud after Ctrl-C, with the commands to follow and to stop it. What is
        `in_use`, or will be as that goes on, is not listed: to remove it would end what answers.
        """
        try:
            yield
        except KeyboardInterrupt:
            left = goes_on if in_use else self._left(goes_on)
            raise Interrupted("stopped waiting." if goes_on else "interrupted.", hint=left) from None
        except StillGoingOn as error:
            raise DeployError(error.what, hint=goes_on if in_use else self._left(error.hint)) from error
        except BertieError as error:
            if self.made:
                kind = type(error) if isinstance(error, DeployError) else DeployError
                raise kind(error.what, expected=error.expected, hint=self._left(error.hint)) from error
            raise

    def _left(self, first: str) -> str:
        if not self.made:
            return first or "nothing was made"
        lines = [f"  {made.what}: {made.remove}" for made in reversed(self.made)]
        return "\n".join([*([first] if first else []), "what was made stays, until it is removed:", *lines])


def hidden(value: Any, name: str = "") -> Any:
    """Return arguments with the values of secrets hidden: what their names say are keys, tokens and passwords."""
    if isinstance(value, Mapping):
        return {key: hidden(part, str(key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(part) for part in value]
    return HIDDEN if isinstance(value, str) and SECRET.search(name) else value


def _refused(error: BaseException) -> bool:
    """Return whether a service, or the library before it was asked, said no: then nothing was made."""
    from botocore.exceptions import ClientError, ParamValidationError  # noqa: PLC0415 - an extra

    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)) < 500
    return isinstance(error, ParamValidationError)


def _method(operation: str) -> str:
    from botocore import xform_name  # noqa: PLC0415 - an extra

    return str(xform_name(operation))


def _validate(client: Any, operation: str, arguments: dict[str, Any]) -> None:
    from botocore.exceptions import ParamValidationError  # noqa: PLC0415 - an extra
    from botocore.validate import ParamValidator  # noqa: PLC0415

    report = ParamValidator().validate(arguments, client.meta.service_model.operation_model(operation).input_shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())
