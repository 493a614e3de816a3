"""What a server is told to serve: names, and the bundles that share each name's requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertie.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
SHAPES = "BUNDLE, NAME=BUNDLE, or NAME=BUNDLE_A:90,BUNDLE_B:10 to share NAME's requests between two"


@dataclass(frozen=True)
class Share:
    """A bundle, and its part of a name's requests."""

    bundle: Path
    weight: int = 1

    @property
    def label(self) -> str:
        """What the bundle is called in metrics and logs."""
        return self.bundle.name


def parse(models: Sequence[str], name: str) -> dict[str, tuple[Share, ...]]:
    """Return what to serve, by name; `name` is that of a bundle given without one. Raises UsageError."""
    found: dict[str, tuple[Share, ...]] = {}
    for model in models:
        named, equals, rest = model.partition("=")
        # A folder may have any name: what is there as it is written is meant as it is written.
        if not equals or Path(model).exists():
            named, rest = name, model
        if not NAME.fullmatch(named):
            raise UsageError(f"{named!r} cannot be the name of a model.", expected=NAME.pattern)
        if named in found:
            raise UsageError(f"two models are called {named!r}.", expected=SHAPES, hint="give each a name: NAME=BUNDLE")
        found[named] = _shares(rest)
    return found


def _shares(text: str) -> tuple[Share, ...]:
    if text and Path(text).exists():
        return (Share(Path(text)),)
    shares = []
    for part in text.split(","):
        bundle, colon, weight = part.rpartition(":")
        if not colon or not weight.isdecimal():
            bundle, weight = part, "1"
        if not bundle or not int(weight):
            raise UsageError(f"{part!r} is no bundle with its part of the requests.", expected=SHAPES)
        shares.append(Share(Path(bundle), int(weight)))
    if len({share.label for share in shares}) < len(shares):
        raise UsageError(f"two bundles in {text!r} have one name, and could not be told apart.", expected=SHAPES)
    return tuple(shares)
