"""What a million predictions cost on a machine that is paid by the hour."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bertie.errors import DataNotFound, UsageError, nearest

TABLE = Path(__file__).with_name("prices.toml")
"""Examples that ship with the package. Prices change and differ by region: for a decision, give a table of your own."""


@dataclass(frozen=True)
class Machine:
    """A machine and its price."""

    name: str
    usd_per_hour: float
    provider: str = ""
    vcpus: int = 0
    as_of: str = ""
    """When the price was known to be this."""
    source: str = ""


def cost_per_million(usd_per_hour: float, texts_per_s: float) -> float:
    """Return the dollars for a million texts on a machine that is busy all the time."""
    return usd_per_hour / 3600 / texts_per_s * 1e6


def chosen(price_per_hour: float | None, name: str | None, path: Path | None = None) -> Machine | None:
    """Return what an hour costs: the price given, or that of a machine of the table. Raises UsageError for both."""
    if price_per_hour is not None and name:
        raise UsageError("the price comes from --price-per-hour or from --machine, not from both.")
    if path and not name:
        raise UsageError("--prices is a table to look --machine up in.", hint="add --machine NAME")
    if price_per_hour is not None:
        return Machine("", price_per_hour)
    return machine(name, path) if name else None


def machine(name: str, path: Path | None = None) -> Machine:
    """Return a machine of the table. Raises UsageError if it is not there."""
    known = machines(path or TABLE)
    if name not in known:
        hint = nearest(name, known) or "--price-per-hour needs no table"
        raise UsageError(f"there is no price for {name!r}.", expected=f"one of {', '.join(known)}", hint=hint)
    return known[name]


def machines(path: Path = TABLE) -> dict[str, Machine]:
    """Read a table of prices: TOML with a `[[machine]]` for each, of which `name` and `usd_per_hour` must be there.

    Raises DataNotFound, UsageError.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["machine"]
        return {row["name"]: _machine(row) for row in rows}
    except FileNotFoundError as error:
        raise DataNotFound(f"there is no file {path}.", hint="check the path") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a table of prices: {error}.",
            expected='[[machine]] with name = "..." and usd_per_hour = 0.1 for each machine',
        ) from error


def _machine(row: dict[str, Any]) -> Machine:
    if unknown := row.keys() - {field.name for field in fields(Machine)}:
        raise ValueError(f"{min(unknown)!r} is not known")
    price = row["usd_per_hour"]
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < float("inf"):
        raise ValueError(f"usd_per_hour of {row['name']} is {price!r}, not a price")
    return Machine(**row)
