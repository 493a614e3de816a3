"""Every error Bertie raises on purpose, each with the exit code and the HTTP status it becomes.

    BertieError                    exit  HTTP
     ├─ UsageError                    2   400   a flag, an argument or a setting is wrong
     ├─ DataError                     3   422   the user's data cannot be used as it is
     │   ├─ DataNotFound              3   404   no such file or folder
     │   ├─ DataUnreadable            3   422   the file is there but cannot be read or parsed
     │   └─ ColumnMissing             3   422   a named column is not in the file
     ├─ BundleError                   4   500   a model cannot be used
     │   ├─ BundleNotFound            4   404   no run, bundle or archive there
     │   ├─ BundleDamaged             4   500   a file is missing, changed or does not parse
     │   ├─ BundleUnusable            4   500   whole, but needs instructions or a library that are not here
     │   ├─ BundleTooNew              4   500   written by a newer Bertie than this one
     │   └─ ProbeFailed               4   500   it loads, but does not score its probe as it did when written
     ├─ ExportError                   5   500   a trained model could not be turned into a bundle
     │   └─ ParityError               5   500   the exported model does not predict what the trained one does
     ├─ DependencyMissing             6   500   an optional library is not installed
     ├─ OutputError                   7   500   the result cannot be written where it was asked for
     ├─ TrainingError                 8   500   training itself failed, for example with a loss that is not a number
     ├─ RequestError                  2   400   a request to the server cannot be understood
     │   ├─ RequestTooLarge           2   413   a body or a list over the limit
     │   ├─ RequestUnsupported        2   415   a content type that is not known here
     │   ├─ ModelUnknown              2   404   no model of that name is served here
     │   ├─ ModelKnown                2   409   a model of that name is served already
     │   ├─ ModelTooLarge             2   507   no memory for a further model
     │   ├─ KeyRefused                2   401   no API key, or one that is not known here
     │   ├─ HeaderTooLarge            2   431   the head of a request over the limit
     │   ├─ RequestUnacceptable       2   406   no kind of answer that the client takes
     │   ├─ RequestInvalid            2   422   well formed, but not something this model can answer
     │   ├─ ClientSlow                2   408   the client took too long to send its request
     │   └─ ClientLeft                2   499   the client closed its connection before the answer was there
     ├─ NotReady                      9   503   the server is loading or shutting down
     ├─ Overloaded                    9   429   more waits than can be answered in time; see Retry-After
     ├─ DeadlinePassed                9   504   the answer was not ready within the time allowed for it
     ├─ BenchError                   10   500   the process that measures a model died, or took too long
     ├─ DeployError                  11   500   a deployment could not be made, changed or removed
     │   ├─ CredentialsRefused        11   401   no credentials, expired ones, or ones that are not known there
     │   ├─ AccessDenied              11   403   the credentials, or a role, may not do this
     │   ├─ ResourceMissing           11   404   a role, bucket, endpoint or job that is not there
     │   ├─ NameTaken                 11   409   something of that name exists already
     │   └─ QuotaExceeded             11   429   the account's limit, or too many requests in a short time
     ├─ Preempted                    75   503   the machine is taken away (SIGTERM); all is saved, and can be resumed
     └─ Interrupted                 130   503   the user pressed Ctrl-C; what was finished is kept

A message has up to three parts: what happened (with the value), what was expected, and `hint:` what to do next.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Self


class BertieError(Exception):
    """The root of the tree above: a problem somebody can do something about, told in sentences."""

    exit_code = 1
    http_status = 500

    def __init__(self, what: str, *, expected: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        expected = f"\n  {self.expected}" if self.expected else ""
        hint = f"\n\nhint: {self.hint}" if self.hint else ""
        return f"{self.what}{expected}{hint}"


class UsageError(BertieError):
    """A flag, an argument or a setting is wrong."""

    exit_code, http_status = 2, 400


class DataError(BertieError):
    """The user's data cannot be used as it is."""

    exit_code, http_status = 3, 422


class DataNotFound(DataError):
    """There is no such data file or folder."""

    http_status = 404


class DataUnreadable(DataError):
    """A data file is there but cannot be read, decoded or parsed."""


class ColumnMissing(DataError):
    """A named column is not in the file."""


class BundleError(BertieError):
    """A model cannot be used."""

    exit_code = 4


class BundleNotFound(BundleError):
    """No run, bundle or archive of one is there."""

    http_status = 404


class BundleDamaged(BundleError):
    """A file of the bundle is missing, changed, or does not parse."""


class BundleUnusable(BundleError):
    """The bundle is whole, but needs instructions or a library that are not here."""


class BundleTooNew(BundleError):
    """The bundle was written in a format that this version does not know."""


class ProbeFailed(BundleError):
    """The model loads, but does not score its probe texts as it did when it was written."""


class ExportError(BertieError):
    """A trained model could not be turned into a bundle."""

    exit_code = 5


class ParityError(ExportError):
    """The exported model does not predict what the trained one does."""


class DependencyMissing(BertieError):
    """An optional library is not installed."""

    exit_code = 6


class OutputError(BertieError):
    """The result cannot be written where it was asked for."""

    exit_code = 7


class TrainingError(BertieError):
    """Training itself failed."""

    exit_code = 8


class RequestError(BertieError):
    """A request to the server cannot be understood."""

    exit_code, http_status = 2, 400


class RequestTooLarge(RequestError):
    """A body, or a list of texts, is over the limit."""

    http_status = 413


class RequestUnsupported(RequestError):
    """A content type that is not known here."""

    http_status = 415


class ModelUnknown(RequestError):
    """No model of that name is served here."""

    http_status = 404

    @classmethod
    def of(cls, name: str | None, known: Iterable[str]) -> Self:
        """Return the error for a name, or for no name where there is no model at all."""
        wanted = "model" if name is None else f"model {name[:100]!r}"
        first = ", ".join(itertools.islice(known, 10))
        return cls(f"there is no {wanted} here.", expected=first or "none is loaded; POST /models loads one")


class ModelKnown(RequestError):
    """A model of that name is served here already."""

    http_status = 409


class ModelTooLarge(RequestError):
    """There is no memory for a further model; 507 is what SageMaker expects then."""

    http_status = 507


class KeyRefused(RequestError):
    """The request has no API key, or one that is not known here."""

    http_status = 401


class HeaderTooLarge(RequestError):
    """The head of a request, its path and headers, is over the limit."""

    http_status = 431


class RequestUnacceptable(RequestError):
    """The client takes no kind of answer that there is."""

    http_status = 406


class RequestInvalid(RequestError):
    """The request is well formed, but this model cannot answer it."""

    http_status = 422


class ClientSlow(RequestError):
    """The client took too long to send its request."""

    http_status = 408


class ClientLeft(RequestError):
    """The client closed its connection before the answer was there; 499 is what nginx calls that."""

    http_status = 499


class NotReady(BertieError):
    """The server is still loading, or already shutting down."""

    exit_code, http_status = 9, 503


class Overloaded(BertieError):
    """More requests wait than can be answered in time."""

    exit_code, http_status = 9, 429


class DeadlinePassed(BertieError):
    """The answer was not ready within the time that is allowed for it."""

    exit_code, http_status = 9, 504


class BenchError(BertieError):
    """The process that measures a model died, or took too long."""

    exit_code = 10


class DeployError(BertieError):
    """A deployment could not be made, changed or removed; what was made of it is named."""

    exit_code = 11


class CredentialsRefused(DeployError):
    """There are no credentials, or they have expired, or they are not known there."""

    http_status = 401


class AccessDenied(DeployError):
    """The credentials, or the role that was given, may not do this."""

    http_status = 403


class ResourceMissing(DeployError):
    """A role, bucket, endpoint or job is not there."""

    http_status = 404


class NameTaken(DeployError):
    """Something of that name exists already."""

    http_status = 409


class QuotaExceeded(DeployError):
    """The account's limit is reached, or there were too many requests in a short time."""

    http_status = 429


class Preempted(BertieError):
    """The process was asked to end; its work is saved, and the same command can go on with it."""

    exit_code, http_status = 75, 503  # EX_TEMPFAIL of sysexits.h: try again later


class Interrupted(BertieError):
    """The user pressed Ctrl-C; what was finished is kept."""

    exit_code, http_status = 130, 503


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the known name most like `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}?" if match else ""


def need(extra: str, error: ImportError) -> DependencyMissing:
    """Return the error that says which extra of this package brings the library that failed to import."""
    missing = error.name or str(error)
    return DependencyMissing(
        f"{missing!r} is not installed, and this command needs it.",
        hint=f"pip install 'bertie[{extra}]'",
    )
