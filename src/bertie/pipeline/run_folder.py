"""A run on disk: whose folder it is, what is written into it before training, and how it is read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertie import disk
from bertie.config import DataSettings
from bertie.data.check import describe
from bertie.data.examples import Examples, read
from bertie.errors import BundleDamaged, BundleNotFound, UsageError
from bertie.pipeline.lesson import Lesson
from bertie.pipeline.load_data import Splits
from bertie.settings import Settings
from bertie.train.job import Job


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    data: Path
    out: Path
    valid: Path | None = None
    test: Path | None = None
    overwrite: bool = False
    again: bool = False
    """Whether a run that is there already is the same training, begun before, and goes on."""
    kills: int = 0
    """How often the system killed this training so far."""


@dataclass(frozen=True)
class Run:
    """A run on disk, as far as it has come."""

    folder: Path
    facts: dict[str, Any]
    training: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read a run. Raises BundleNotFound where there is none, BundleDamaged where it cannot be read."""
        path = folder / "data.json"
        if not path.is_file():
            raise BundleNotFound(f"{folder} is not a run: there is no data.json.", hint="bertie train DATA --out RUN")
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            training = folder / "training.json"
            return cls(folder, facts, json.loads(training.read_text(encoding="utf-8")) if training.is_file() else {})
        except ValueError as error:
            raise BundleDamaged(f"{path} cannot be read: {error}.") from error

    def split(self, name: str) -> Examples:
        """Read the rows of a split."""
        columns = DataSettings(text_column="text", label_column="label")
        examples = read(self.folder / "splits" / f"{name}.jsonl", columns)
        examples.kind = self.facts["kind"]
        return examples

    @property
    def measured(self) -> Examples:
        """The rows that measure the finished model."""
        return self.split("test" if self.facts["measured_on"] == "test" else "valid")


def refuse_other_folders(request: Request) -> None:
    """Raise OutputError where something is that --overwrite was not given for, or that is no run at all."""
    if request.again and (request.out / "data.json").is_file():
        return
    disk.refuse_others(request.out, "data.json", "run", replace=request.overwrite)


def begun(request: Request, job: Job) -> bool:
    """Return whether this training was begun before. Raises UsageError if another one was, in the same place."""
    if not request.again or not (request.out / "data.json").is_file():
        return False
    if Run.open(request.out).facts.get("job") == job.identity:
        return True
    if request.overwrite:
        return False
    raise UsageError(
        f"{request.out} belongs to another training: its data, base or settings were not these.",
        hint="restore what was changed, choose another place with --out, or begin anew with --overwrite",
    )


def place_of_checkpoints(request: Request, job: Job) -> Callable[[], None]:
    """See that checkpoints can be written where --checkpoints says; return what makes that place empty.

    Those that are there already would be taken for newer ones than what this training will write. Raises OutputError,
    and UsageError where there are any that this training neither goes on with nor was told to replace.
    """
    where = job.settings.checkpoints
    if not where:
        return lambda: None
    from bertie.train.checkpoints import Checkpoints  # noqa: PLC0415 - imports PyTorch

    checkpoints = Checkpoints.at(where, job.settings.keep)
    checkpoints.check()
    owner = checkpoints.owner()
    if owner is None or (request.again and owner == job.identity):
        return lambda: None
    if not request.overwrite:
        mine = owner == job.identity
        raise UsageError(
            f"{where} holds checkpoints of {'this training, begun before' if mine else 'another training'}.",
            expected="a place of its own for each training",
            hint="--auto-resume goes on from them, --overwrite removes them"
            if mine
            else "choose another place with --checkpoints, or remove them with --overwrite",
        )
    return checkpoints.clear


def begin(request: Request, splits: Splits, job: Job, settings: tuple[Settings, ...], lesson: Lesson | None) -> None:
    """Make the run's folder, with all that is known before training."""
    facts = {
        "kind": splits.train.kind,
        "pairs": splits.train.pairs,
        "labels": splits.labels,
        "rows": {"train": len(splits.train), "valid": len(splits.valid), "test": len(splits.test or ())},
        "measured_on": "validation" if splits.test is None else "test",
        "fingerprint": job.fingerprint,
        "job": job.identity,
        "files": [str(path) for path in (request.data, request.valid, request.test) if path],
        "columns": splits.train.columns,
        "dropped": splits.dropped,
        "problems": [describe(problem) for problem in splits.report.problems],
        "base": job.base.as_dict(),
        "limits": asdict(job.encoder.limits),
        "pad_id": job.encoder.pad_id,
    }
    if lesson is not None:
        facts["lesson"] = lesson.facts
    with disk.folder(request.out, replace=request.overwrite) as stage:
        disk.write_text(stage / "config.toml", "\n".join(part.to_toml() for part in settings))
        disk.write_text(stage / "data.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        for name, part in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
            if part is not None:
                part.write(stage / "splits" / f"{name}.jsonl")
        if lesson is not None:
            lesson.write(stage)
