"""`bertie deploy sagemaker-recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertie.cli.options import Json, Model, Quiet, line, put, table, talk


def recommend(
    model: Model,
    rate: Annotated[float, typer.Option(min=0.001, help="Requests a second, of one text each.")],
    p99_ms: Annotated[float, typer.Option(min=1, help="The time in which 99 of 100 answers must be there.")],
    prices: Annotated[
        Path | None, typer.Option(help="Table of prices, instead of the one that ships.", metavar="FILE")
    ] = None,
    utilization: Annotated[float, typer.Option(min=0.05, max=0.95, help="How busy an instance may be, of 1.")] = 0.7,
    overhead_ms: Annotated[float, typer.Option(min=0, help="Time for the network and SageMaker's routing.")] = 10.0,
    seconds: Annotated[float, typer.Option(min=0.01, help="Time for each part of the measurement.")] = 1.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the cheapest SageMaker instances for a rate and a latency, from this model's speed as measured here."""
    from bertie.deploy.sagemaker.recommend import recommend as find  # noqa: PLC0415 - keeps --help fast

    facts = find(
        model,
        talk(quiet=quiet),
        rate=rate,
        p99_ms=p99_ms,
        table=prices,
        utilization=utilization,
        overhead_ms=overhead_ms,
        seconds=seconds,
    )
    if json:
        put(facts)
        return
    head = ["instances", "type", "$/hour", "$/month", "busy", "p99, ms", "price of"]
    rows = [
        [
            str(one["instances"]),
            one["instance_type"],
            f"{one['usd_per_hour']:g}",
            f"{one['usd_per_month']:,.0f}",
            f"{one['utilization']:.0%}",
            f"{one['p99_ms'] + overhead_ms:.1f}",
            one["as_of"],
        ]
        for one in facts["choices"]
    ]
    table(head, rows)
    line()
    line("assuming that")
    for assumption in facts["assumptions"]:
        line(f"  {assumption}")
    best = facts["recommended"]
    line(
        f"next: bertie deploy sagemaker {model} --image URI --instance-type {best['instance_type']} "
        f"--instance-count {best['instances']} --role R"
    )
