"""Names of what is deployed, made from the model's."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST = 40
"""Characters of a name. Kubernetes allows a Service 63; what is added to a name must fit too."""


def name_of(model: Path) -> str:
    """Return a name for a run, a bundle or an archive that a DNS label and an image's name may be.

    The bundle of a run has the run's name.
    """
    name = re.sub(r"\.(tar\.gz|tgz)$", "", model.resolve().name)
    if name == "bundle":
        name = model.resolve().parent.name
    return slug(name)


def slug(text: str) -> str:
    """Return the text in small letters, digits and hyphens, beginning with a letter."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"bertie-{name}".strip("-")
    return name[:LONGEST].rstrip("-")
