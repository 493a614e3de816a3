"""A page that a person opens: one file, with everything in it, that loads and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.disk import write_text
from bertie.errors import need


def write_page(path: Path, template: str, values: dict[str, Any]) -> None:
    """Fill a template of this package, and write it whole or not at all. Raises OutputError, DependencyMissing."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("evaluate", error) from error
    environment = Environment(
        loader=PackageLoader("bertie.evaluate", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(path, environment.get_template(template).render(values))
