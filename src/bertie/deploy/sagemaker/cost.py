"""What an endpoint costs while it stands, from a table of prices that the user can edit. Nothing is looked up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.bench.prices import Machine, machines
from bertie.errors import UsageError

TABLE = Path(__file__).with_name("prices.toml")
HOURS_A_MONTH = 730


def prices(path: Path | None = None) -> dict[str, Machine]:
    """Return a table of prices, ours if none is given. Raises DataNotFound, UsageError."""
    return machines(path or TABLE)


def preview(
    instance_type: str | None, count: int, path: Path | None = None, *, most: int | None = None
) -> dict[str, Any]:
    """Return what the instances cost an hour and a month of 730 hours, in dollars; {} if the type has no price.

    `most` is the number to which scaling may go. Serverless endpoints have no price an hour.
    """
    table = prices(path)
    if path and instance_type and instance_type not in table:
        raise UsageError(f"{path} has no price for {instance_type!r}.", expected=f"one of {', '.join(table)}")
    found = table.get(instance_type or "")
    if found is None:
        return {}
    hour = found.usd_per_hour * count
    facts = {"usd_per_hour": round(hour, 4), "usd_per_month": round(hour * HOURS_A_MONTH, 2)}
    if most:
        facts["usd_per_hour_at_most"] = round(found.usd_per_hour * most, 4)
    return facts | {"as_of": found.as_of, "source": found.source}


def sentence(cost: dict[str, Any]) -> str:
    """Return the preview in words that do not promise a price."""
    if not cost:
        return "cost: not in the table of prices; --prices FILE gives one"
    most = f", at most ${cost['usd_per_hour_at_most']:g} an hour" if "usd_per_hour_at_most" in cost else ""
    return (
        f"cost: about ${cost['usd_per_hour']:g} an hour, ${cost['usd_per_month']:,.0f} a month{most}, by a table of "
        f"{cost['as_of'] or 'unknown date'}; today's prices: {cost['source'] or 'your provider'}"
    )
