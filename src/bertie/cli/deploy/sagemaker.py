"""`bertie deploy sagemaker`, and its `-batch`, `-status`, `-logs`, `-delete`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.deploy.dry_run import print_requests
from bertie.cli.options import Json, Model, Quiet, line, put, table, talk, with_settings
from bertie.deploy.aws.settings import AwsSettings
from bertie.deploy.sagemaker.settings import ContainerSettings, HostingSettings, TransformSettings

Name = Annotated[str, typer.Argument(help="Name of the endpoint.", show_default=False)]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print every request in order, and send none.")]
Prices = Annotated[Path | None, typer.Option(help="Table of prices, instead of the one that ships.", metavar="FILE")]


@with_settings
def sagemaker(
    aws: AwsSettings,
    container: ContainerSettings,
    hosting: HostingSettings,
    models: Annotated[
        list[Path], typer.Argument(help="A run or a bundle; several for --multi-model.", metavar="MODEL")
    ],
    update: Annotated[bool, typer.Option("--update", help="Replace the model of an endpoint that exists.")] = False,
    prices: Prices = None,
    dry_run: Dry = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put a model on an Amazon SageMaker endpoint.

    The artifact is started and compared on this machine first; then it is uploaded, and the endpoint made and tried.
    Further verbs: sagemaker status, logs and delete NAME; sagemaker batch and recommend MODEL; sagemaker train DATA.
    """
    from bertie.deploy.sagemaker.cost import sentence  # noqa: PLC0415 - keeps --help fast
    from bertie.deploy.sagemaker.deploy import Wanted, deploy_endpoint  # noqa: PLC0415

    voice = talk(quiet=quiet)
    wanted = Wanted(models, aws, container, hosting, update, dry_run, prices)
    facts = deploy_endpoint(wanted, voice)
    if json:
        put(facts)
        return
    name = facts["name"]
    if dry_run:
        print_requests(facts)
        line(sentence(facts["cost"]) if facts["kind"] != "serverless" else "cost: by request; see AWS's page of prices")
        line("nothing was sent; next: the same without --dry-run")
        return
    for made in facts["made"]:
        line(f"made     {made}")
    if "answer" in facts:
        line(f"answer   {facts['answer']}")
    line(sentence(facts["cost"]) if facts["kind"] != "serverless" else "cost: by request; see AWS's page of prices")
    line()
    line(facts["snippet"])
    line()
    where = f"{name}{aws.flags(facts.get('region'))}"
    line(f"it costs money until bertie deploy sagemaker-delete {where} --all")
    line(f"next: bertie deploy sagemaker-status {where}")


@with_settings
def batch(
    aws: AwsSettings,
    container: ContainerSettings,
    batch: TransformSettings,
    model: Model,
    input: Annotated[str, typer.Argument(help="JSON Lines: a file here, or s3://BUCKET/KEY.")],  # noqa: A002
    output: Annotated[str, typer.Argument(help="Where the answers go: s3://BUCKET/PREFIX.")],
    prices: Prices = None,
    dry_run: Dry = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a file on SageMaker's machines: a batch transform job.

    Each line is a JSON string or {"text": ...}; each answer is a line at the same place.
    """
    from bertie.deploy.sagemaker.batch import Job, transform  # noqa: PLC0415 - keeps --help fast
    from bertie.deploy.sagemaker.cost import sentence  # noqa: PLC0415

    facts = transform(Job(model, input, output, aws, container, batch, dry_run, prices), talk(quiet=quiet))
    if json:
        put(facts)
        return
    if dry_run:
        print_requests(facts)
        line(f"{sentence(facts['cost'])}, while it runs")
        line("nothing was sent; next: the same without --dry-run")
        return
    line(f"job      {facts['job']}: {facts['status']}")
    line(f"answers  {facts['output']}, each file with .out at its end")
    line(f"what was uploaded, your texts among it, stays until {facts['remove']}")
    line(facts["follow"] if "follow" in facts else f"next: aws s3 cp --recursive {facts['output']} .")


@with_settings
def status(aws: AwsSettings, name: Name, json: Json = False) -> None:
    """Show how an endpoint is: state, machines, model, scaling, cost."""
    from bertie.deploy.sagemaker.cost import sentence  # noqa: PLC0415 - keeps --help fast
    from bertie.deploy.sagemaker.status import status as look  # noqa: PLC0415

    facts = look(name, aws)
    if json:
        put(facts)
        return
    table(["", name], [[key, str(value)] for key, value in facts.items() if key not in {"name", "cost"}])
    if "cost" in facts:
        line(sentence(facts["cost"]))
    line(f"next: bertie deploy sagemaker-logs {name}{aws.flags(facts.get('region'))}")


@with_settings
def logs(
    aws: AwsSettings,
    name: Name,
    minutes: Annotated[float, typer.Option(min=0, help="How far back.")] = 60,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new lines until Ctrl-C.")] = False,
) -> None:
    """Print what the containers of an endpoint have written."""
    from bertie.deploy.sagemaker.status import lines  # noqa: PLC0415 - keeps --help fast

    for text in lines(name, aws, minutes=minutes, follow=follow):
        line(text)


@with_settings
def delete(
    aws: AwsSettings,
    name: Name,
    everything: Annotated[
        bool, typer.Option("--all", help="Also its configurations, models and files in S3: all that the name made.")
    ] = False,
    with_logs: Annotated[bool, typer.Option("--logs", help="Also the lines that its containers wrote.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, and print what would be removed.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove an endpoint, its scaling and its alarm. What is gone already is no error."""
    from bertie.deploy.sagemaker.remove import remove  # noqa: PLC0415 - keeps --help fast

    facts = remove(name, aws, talk(quiet=quiet), everything=everything, logs=with_logs, dry=dry_run)
    if json:
        put(facts)
        return
    if dry_run:
        print_requests(facts)
        line("nothing was sent; next: the same without --dry-run")
        return
    if not facts["removed"]:
        line(f"there is nothing of {name} in {facts['region']}; --region and --bucket say where else to look")
        return
    line(f"removed {len(facts['removed'])} things of {name} in {facts['region']}")
    if not everything:
        again = f"bertie deploy sagemaker-delete {name}{aws.flags(facts.get('region'))} --all"
        line(f"next: its models and files stay; {again} removes them too")
