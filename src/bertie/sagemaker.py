"""Train and host on Amazon SageMaker from Python, in a few lines.

>>> from bertie import sagemaker
>>> job = sagemaker.train("train.csv", role="SageMakerRole", instance_type="ml.g5.xlarge", out="runs/first")
>>> endpoint = sagemaker.deploy(job.model, role="SageMakerRole", instance_type="ml.c7i.large")
>>> endpoint.predict(["Where is my parcel?"])[0].label
'delivery'
>>> endpoint.delete()

Settings are those of `bertie deploy sagemaker-train` and `bertie deploy sagemaker`, by name. With `dry_run=True`
nothing is sent: the result holds every request that would be, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertie.client.exchange import Came, Retries, carry_out, predictions
from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.deploy.aws.failures import told
from bertie.deploy.aws.session import Session, open_session
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.remove import remove
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings
from bertie.deploy.sagemaker.status import status
from bertie.deploy.sagemaker.training_settings import TrainingJobSettings
from bertie.errors import UsageError, nearest
from bertie.scores import Prediction
from bertie.settings import Settings
from bertie.talk import Talk
from bertie.tokens import Text

if TYPE_CHECKING:
    from bertie.deploy.sagemaker.state import Clock

RETRIES, RETRY_SECONDS = 5, 60.0
"""How often a busy endpoint is asked again, and for how long."""

JSON = "application/json"


@dataclass(frozen=True)
class TrainingJob:
    """A training job: ended with its run fetched, or started only (`wait=False`), or neither, after a dry run."""

    name: str
    aws: AwsSettings = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    """What `bertie deploy sagemaker-train --json` prints; `requests` after a dry run."""
    clock: Clock | None = field(default=None, repr=False, compare=False)

    @property
    def model(self) -> Path:
        """The run that was fetched. Raises UsageError where none has been."""
        if "out" not in self.facts:
            raise UsageError(f"the model of {self.name} is not here.", hint="follow() waits for it and fetches it")
        return Path(self.facts["out"])

    def follow(self, out: str | Path | None = None, *, quiet: bool = False) -> TrainingJob:
        """Wait for the end of a job that was started with `wait=False`, and fetch its run into `out`; return it so.

        Raises DeployError with the reason of a job that failed.
        """
        from bertie.deploy.sagemaker.training import follow_job  # noqa: PLC0415 - needs what trains

        _refuse_dry(self.name, self.facts)
        facts = follow_job(self.name, self.aws, None if out is None else Path(out), Talk(quiet=quiet), self.clock)
        return TrainingJob(self.name, self.aws, self.facts | facts, self.clock)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint that answers until it is deleted, and costs money until then."""

    name: str
    aws: AwsSettings = field(repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    """What `bertie deploy sagemaker --json` printed when it was made; `requests` after a dry run."""
    clock: Clock | None = field(default=None, repr=False, compare=False)

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return one Prediction for each text, in order; a long list is sent in several requests.

        Raises what the server raised, and DeployError where AWS refuses.
        """
        _refuse_dry(self.name, self.facts)
        session = open_session(self.aws)
        exchange = predictions(texts, lambda: Retries(RETRIES, RETRY_SECONDS))
        return carry_out(exchange, lambda body: _invoke(session, self.name, body))

    def status(self) -> dict[str, Any]:
        """Return how it is: state, machines, model, scaling, cost. Raises ResourceMissing."""
        return status(self.name, self.aws)

    def delete(self, *, quiet: bool = False) -> list[str]:
        """Remove it with all that its name made, files in S3 too; return what was removed.

        Of a dry run there is nothing. Raises DeployError.
        """
        if "requests" in self.facts:
            return []
        facts = remove(self.name, self.aws, Talk(quiet=quiet), everything=True, clock=self.clock)
        return list(facts["removed"])


def train(
    data: str | Path,
    *,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    out: str | Path | None = None,
    dry_run: bool = False,
    quiet: bool = False,
    clock: Clock | None = None,
    **settings: Any,
) -> TrainingJob:
    """Train on SageMaker's machines, follow the job, and fetch its run into `out`.

    `settings` are those of `bertie deploy sagemaker-train` and of `bertie train`, by name. Raises UsageError and
    DataError before anything is sent, DeployError with the list of what was made.
    """
    from bertie.deploy.sagemaker.training import Wanted, train_on_sagemaker  # noqa: PLC0415 - needs what trains

    tables = _tables(settings, AwsSettings, TrainingJobSettings, DataSettings, SplitSettings, TrainSettings)
    aws, job, data_settings, split, training = tables
    wanted = Wanted(
        str(data),
        None if valid is None else str(valid),
        None if test is None else str(test),
        *(aws, job, data_settings, split, training),
        out=None if out is None else Path(out),
        dry=dry_run,
    )
    facts = train_on_sagemaker(wanted, Talk(quiet=quiet), clock)
    return TrainingJob(facts["job"], _placed(aws, facts["region"]), facts, clock)


def deploy(
    model: str | Path,
    *,
    update: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    clock: Clock | None = None,
    **settings: Any,
) -> Endpoint:
    """Put a run or a bundle on an endpoint, wait until it is ready, and try it; `update` replaces an endpoint's model.

    `settings` are those of `bertie deploy sagemaker`, by name. Raises UsageError before anything is sent, and
    DeployError with the list of what was made.
    """
    from bertie.deploy.sagemaker.deploy import Wanted, deploy_endpoint  # noqa: PLC0415 - boto3 and the artifact's server

    aws, container, hosting = _tables(settings, AwsSettings, ContainerSettings, HostingSettings)
    facts = deploy_endpoint(Wanted([Path(model)], aws, container, hosting, update, dry_run), Talk(quiet=quiet), clock)
    return Endpoint(facts["name"], _placed(aws, facts["region"]), facts, clock)


def endpoint(name: str, **settings: Any) -> Endpoint:
    """Return an endpoint that was made before, by its name. `settings` say where: `region`, `profile`, `bucket`."""
    (aws,) = _tables(settings, AwsSettings)
    return Endpoint(name, aws)


def _refuse_dry(name: str, facts: Mapping[str, Any]) -> None:
    if "requests" in facts:
        raise UsageError(f"{name} was a dry run: it was never made.", hint="the same without dry_run=True makes it")


def _placed(aws: AwsSettings, region: str) -> AwsSettings:
    return aws.model_copy(update={"region": region})


def _tables(given: Mapping[str, Any], *tables: type[Settings]) -> tuple[Any, ...]:
    """Load tables of settings, each with those of the values that it knows. Raises UsageError for an unknown one."""
    known = [name for one in tables for name in one.model_fields]
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f"known are {', '.join(known)}"
            raise UsageError(f"there is no setting {name!r} here.", hint=hint)
    return tuple(one.load({name: value for name, value in given.items() if name in one.model_fields}) for one in tables)


def _invoke(session: Session, name: str, body: bytes) -> Came:
    """Send one request to an endpoint; return what its container answered. Raises DeployError where AWS refuses."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - an extra

    client = session.client("sagemaker-runtime")
    with told(f"ask the endpoint {name}", session.region):
        try:
            answer = client.invoke_endpoint(EndpointName=name, ContentType=JSON, Accept=JSON, Body=body)
            return Came(200, answer["Body"].read())
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ModelNotReadyException":
                return Came(503)
            if code != "ModelError":
                raise
            # What the container itself said, which AWS wraps into a 424.
            status = int(error.response.get("OriginalStatusCode", 500))
            return Came(status, str(error.response.get("OriginalMessage", "")).encode())
