"""Complete a folder with the files of a model into a bundle: probe, card, manifest with hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.bundle.card import card
from bertie.bundle.manifest import FILE, FORMAT, FileRecord, Manifest
from bertie.bundle.probe import Probe
from bertie.disk import sha256, write_text

CARD = "README.md"


def write(stage: Path, fields: dict[str, Any], probe: Probe) -> Manifest:
    """Write probe, model card and manifest into `stage`, which holds the model and tokenizer already.

    `fields` are those of Manifest but `format` and `files`. The manifest is written last: where it is, all is.
    """
    probe.write(stage / "probe.json")
    return complete(stage, fields)


def complete(stage: Path, fields: dict[str, Any]) -> Manifest:
    """Write model card and manifest into `stage`, which holds all other files already."""
    write_text(stage / CARD, card(fields))
    files = {
        str(path.relative_to(stage)): FileRecord(sha256=sha256(path), bytes=path.stat().st_size)
        for path in sorted(stage.rglob("*"))
        if path.is_file() and path.name != FILE
    }
    manifest = Manifest.model_validate(fields | {"format": FORMAT, "files": files})
    write_text(stage / FILE, manifest.to_json())
    return manifest
