"""`bertie bench`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from bertie.cli.options import Json, Model, Quiet, line, put, table, talk
from bertie.cli.predict import text_lines
from bertie.errors import UsageError

MOST_LINES = 100_000
"""Lines read of an input; a sample of them is measured."""


def bench(
    model: Model,
    input: Annotated[  # noqa: A002
        Path | None,
        typer.Option(
            "--input", help="File with one text a line; for models of pairs, a tab between the two.", metavar="FILE"
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="The form of the model to measure, if not the chosen one.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="Threads of one model call; 0 takes all physical cores.")
    ] = 0,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What a machine like this costs an hour, in dollars.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option(help="Take the price of this machine from the table, such as c7i.large.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="Table of prices, instead of the one that ships.", metavar="FILE")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Time for each part of the measurement.")] = 1.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on this machine.

    Latency at three lengths, throughput, cold start, memory; the cost of a million texts.
    """
    from bertie.bench import prices as table_of  # noqa: PLC0415 - keeps --help fast
    from bertie.pipeline.bench_model import bench_model  # noqa: PLC0415

    price = table_of.chosen(price_per_hour, machine, prices)
    lines = list(islice(text_lines(input), MOST_LINES)) if input else []
    if input and not lines:
        raise UsageError(f"{input} holds no texts.", expected="one text a line")
    voice = talk(quiet=quiet)
    facts = bench_model(model, voice, lines=lines, variant=variant, threads=threads, seconds=seconds, price=price)
    if json:
        put(facts)
    else:
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    here = facts["machine"]
    line(f"{here['processor']} ({', '.join(here['instructions'])}), {here['cores']} cores")
    line()
    mean = facts["tokens_per_s"] / facts["texts_per_s"]
    groups = [("all texts", f"{mean:.0f} on average", facts)]
    groups += [(name, f"{group['tokens']:.0f}", group) for name, group in facts["by_length"].items()]
    rows = [[name, tokens, f"{group['p50_ms']:.2f}", f"{group['p99_ms']:.2f}"] for name, tokens, group in groups]
    table(["one text", "tokens", "p50, ms", "p99, ms"], rows)
    line()
    table(["texts a call", "texts/s"], [[size, f"{rate:,.0f}"] for size, rate in facts["texts_per_s_by_batch"].items()])
    line()
    line(f"throughput   {facts['texts_per_s']:,.0f} texts/s, {facts['tokens_per_s']:,.0f} tokens/s")
    line(f"cold start   {facts['cold_start_ms']:,.0f} ms from the start of the process to its first answer")
    line(f"peak memory  {facts['peak_mb']:,.0f} MB")
    line(f"on disk      {facts['bytes'] / 1e6:,.1f} MB")
    if "cost_per_million" in facts:
        where = f" ({facts['priced_as']}, if it is as fast there as here)" if facts["priced_as"] else ""
        line(f"a million    ${facts['cost_per_million']:.3g} at ${facts['price_per_hour']:g} an hour{where}")
    else:
        line("next: add --price-per-hour for the cost of a million texts")
