"""The texts that a faster form of a model is compared on, and those that its ranges of values are measured on."""

from __future__ import annotations

from pathlib import Path

from bertie.bundle.manifest import Manifest
from bertie.config import DataSettings
from bertie.data.check import check
from bertie.data.examples import Examples, read
from bertie.errors import DataError
from bertie.pipeline.load_data import read_files, same_kind, same_shape
from bertie.pipeline.measure import NEED_ROWS
from bertie.tokens import Text


def held_out(model: Path, data: Path | None, given: DataSettings, manifest: Manifest) -> Examples:
    """Return labelled rows that the model has not learned from: those given, or a run's test and validation rows."""
    own = [model / "splits" / f"{name}.jsonl" for name in ("test", "valid")]
    files, settings = [file for file in own if file.is_file()], DataSettings(text_column="text", label_column="label")
    if data is not None:
        files, settings = [data], given
    if not files:
        raise DataError(
            f"{model} brings no texts to compare the variants on.",
            expected="labelled texts that the model has not learned from",
            hint="add --data FILE, or optimize the run, which has kept some",
        )
    parts, _ = read_files(files, settings)
    if data is not None:
        found = check(parts)
        found.problems[:] = [p for p in found.problems if p.severity == "warning" or p.kind in NEED_ROWS]
        found.raise_errors()
    rows = Examples(files[0].name, [], [], [], kind=manifest.task)
    for part in parts:
        same_shape(part, pairs=manifest.input.pairs)
        part.kind = manifest.task if data is None else part.kind
        same_kind(part, manifest.task)
        rows = Examples(rows.name, [*rows.texts, *part.texts], [*rows.labels, *part.labels], [*rows.lines, *part.lines])
    rows.kind = manifest.task
    if not len(rows):
        raise DataError(
            f"there are no rows in {', '.join(str(file) for file in files)}.",
            expected="labelled texts that the model has not learned from",
        )
    return rows


def calibration_texts(model: Path, texts: Path | None, given: DataSettings, manifest: Manifest) -> list[Text]:
    """Return the texts given for it, or a run's training texts; nothing for a bundle."""
    if texts is not None:
        rows = read(texts, given, labelled=False)
        same_shape(rows, pairs=manifest.input.pairs)
        return [text for text in rows.texts if any(text)]
    file = model / "splits" / "train.jsonl"
    if not file.is_file():
        return []
    return list(read(file, DataSettings(text_column="text"), labelled=False).texts)
