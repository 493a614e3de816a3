"""Where a training job finds its data: SageMaker's channels, each a folder below input/data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.errors import DataNotFound, UsageError, nearest

NAMES = {
    "data": ("train", "training"),
    "valid": ("valid", "validation"),
    "test": ("test",),
    "base": ("base",),
}
"""What a channel holds, by its name; `base` is the model to start from, where the container reaches no hub."""

THE_PLATFORMS = ("code", "sm_", "sagemaker")
"""How names begin of channels that the SDKs use for themselves."""


@dataclass(frozen=True)
class Channels:
    """A file or folder for each channel that there is."""

    data: Path
    valid: Path | None = None
    test: Path | None = None
    base: Path | None = None


def channels(folder: Path, config: Path) -> Channels:
    """Find the channels in `input/data`, with the kinds that `inputdataconfig.json` says they have.

    Raises DataNotFound for one that is missing or empty, UsageError for one that has no use here or is a pipe.
    """
    kinds = _kinds(config)
    names = {*kinds, *(entry.name for entry in folder.glob("*") if entry.is_dir())}
    found: dict[str, Path] = {}
    for name in sorted(name for name in names if not name.startswith(THE_PLATFORMS)):
        use = next((use for use, known in NAMES.items() if name in known), None)
        if use is None:
            known = [name for known in NAMES.values() for name in known]
            raise UsageError(
                f"there is no use for the channel {name!r}.",
                hint=nearest(name, known) or f"known are {', '.join(known)}",
            )
        if kinds.get(name) == "Pipe":
            raise UsageError(f"the channel {name!r} is a pipe.", expected="input mode File or FastFile")
        if use in found:
            raise UsageError(f"two channels hold the same: {' and '.join(NAMES[use])}.", hint="leave one of them out")
        found[use] = folder / name if use == "base" else content(folder / name)
    if "data" not in found:
        raise DataNotFound(
            f"there is no channel with training data; there are {', '.join(sorted(names)) or 'none'}.",
            expected=f"one named {' or '.join(NAMES['data'])}",
        )
    return Channels(**found)


def content(folder: Path) -> Path:
    """Return what a channel holds: its file where it is one, else the folder itself. Raises DataNotFound for nothing.

    A prefix in S3 may end above the folder that was meant, so a folder that holds nothing but one folder is entered.
    """
    entries = [entry for entry in folder.glob("*") if not entry.name.startswith((".", "_"))]
    if not entries:
        raise DataNotFound(
            f"the channel {folder.name!r} is empty.", hint="check the address in S3 that the job names for it"
        )
    if len(entries) > 1:
        return folder
    only = entries[0]
    return content(only) if only.is_dir() and not any(folder.glob("*/*.txt")) else only if only.is_file() else folder


def _kinds(config: Path) -> dict[str, str]:
    if not config.is_file():
        return {}
    try:
        found: Any = json.loads(config.read_text(encoding="utf-8"))
        return {name: str(facts.get("TrainingInputMode", "File")) for name, facts in found.items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"{config} is not what SageMaker writes there.", expected="an object for each channel"
        ) from error
