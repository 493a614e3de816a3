"""The folders of a SageMaker container, and what a training leaves in them.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bertie.disk import unwritten
from bertie.errors import BertieError
from bertie.pipeline.launch import SAGEMAKER_FOLDER

LONGEST_FAILURE = 1024
"""Characters of output/failure that the job's description shows."""

REPORTS = ("report.html", "metrics.json", "training.json", "config.toml", "log.jsonl")
"""Files of a run that are uploaded beside the model. Its splits, which hold the texts, are not among them."""


@dataclass(frozen=True)
class Place:
    """The platform's folder."""

    root: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Place:
        """Return /opt/ml, or where SAGEMAKER_BASE_DIR moves it."""
        return cls(Path(environment.get("SAGEMAKER_BASE_DIR") or SAGEMAKER_FOLDER))

    @property
    def config(self) -> Path:
        """Where the job is described."""
        return self.root / "input" / "config"

    @property
    def data(self) -> Path:
        """Where the channels are."""
        return self.root / "input" / "data"

    @property
    def checkpoints(self) -> Path:
        """The one folder that comes back when a job starts again."""
        return self.root / "checkpoints"

    @property
    def run(self) -> Path:
        """The run. It can be made again from the channels, and holds texts, so it stays out of the checkpoints."""
        return self.root / "run"

    @property
    def model(self) -> Path:
        """What becomes model.tar.gz."""
        return self.root / "model"

    def forget(self) -> None:
        """Remove the failure of an earlier try on the same disk."""
        with suppress(OSError):
            (self.root / "output" / "failure").unlink()

    def fail(self, why: str) -> None:
        """Write why the job failed, unless another process of it has said so already."""
        path = self.root / "output" / "failure"
        with suppress(OSError):  # what cannot be written there is in the log
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(why[:LONGEST_FAILURE])

    def deliver(self) -> None:
        """Put the finished run where it is uploaded from: model, and report beside it. Raises OutputError.

        The model's folder is a bundle and a checkpoint of transformers in one. Both have a tokenizer.json; the bundle's
        is a copy of the other.
        """
        try:
            # Into the folder, not in its place: it may be a mount.
            shutil.copytree(self.run / "checkpoint", self.model, dirs_exist_ok=True)
            shutil.copytree(self.run / "bundle", self.model, dirs_exist_ok=True)
            reports = self.root / "output" / "data"
            reports.mkdir(parents=True, exist_ok=True)
            for name in REPORTS:
                if (self.run / name).is_file():
                    shutil.copyfile(self.run / name, reports / name)
        except OSError as error:
            raise unwritten(Path(error.filename or self.model), error) from error


def sentences(error: BertieError) -> str:
    """Return an error for output/failure."""
    return f"{type(error).__name__}: {error}"


def ended(code: int) -> str:
    """Return what to say of a training that ended without a word."""
    killed = code == 128 + 9
    why = "it was killed, most often because memory ran out" if killed else f"it ended with exit code {code}"
    return f"training did not finish: {why}. The log of the job holds what it said until then."


def interface_of(config: Path, known: Path = Path("/sys/class/net")) -> str:
    """Return the network interface between the hosts, by resourceconfig.json; empty if not told or not there."""
    with suppress(OSError, ValueError, AttributeError):
        name = json.loads((config / "resourceconfig.json").read_text(encoding="utf-8")).get("network_interface_name")
        if isinstance(name, str) and name and (known / name).exists():
            return name
    return ""
