"""What a run holds beside the usual if its model learns from another one: the lesson.

    RUN/student/               the encoder it starts from, layers and pieces left out already; until training has ended
    RUN/teacher/answers.npy    the teacher's calibrated logits of training and unlabelled rows; until training has ended
    RUN/teacher/measured.npy   and, as they are, of the rows that measure the finished model
    RUN/splits/unlabelled.jsonl

So a training can go on, and a bundle be made again, where the teacher is no more.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertie.config import DataSettings
from bertie.data.examples import Examples, read
from bertie.data.texts import Texts
from bertie.errors import BundleDamaged
from bertie.evaluate.metrics import measure
from bertie.runtime.classifier import Classifier
from bertie.scores import Decision, chosen, probabilities
from bertie.train.base_models import Base, resolve
from bertie.train.soft import Soft

STUDENT = "student"
ANSWERS, MEASURED = "teacher/answers.npy", "teacher/measured.npy"
UNLABELLED = "splits/unlabelled.jsonl"

BESIDE = ("teacher", "parameters", "layers")
"""What the metrics of a student hold beside the usual."""


@dataclass(frozen=True)
class Lesson:
    """What a student learns from a teacher, and what it starts from."""

    soft: Soft
    measured: NDArray[np.float32]  # [measured rows, labels], the teacher's logits
    unlabelled: Examples
    student: Base
    facts: dict[str, Any]
    """What `data.json` says of it; `decision` reads the logits."""

    def write(self, stage: Path) -> None:
        """Write all this into a run that is being made."""
        shutil.copytree(self.student.folder, stage / STUDENT)
        (stage / "teacher").mkdir()
        _save(stage / ANSWERS, self.soft.logits)
        _save(stage / MEASURED, self.measured)
        if len(self.unlabelled):
            self.unlabelled.write(stage / UNLABELLED)


def student_of(run: Path, facts: dict[str, Any]) -> Base | None:
    """Return what the student of a run starts from; None for a run without a teacher."""
    if "lesson" not in facts:
        return None
    base = facts["base"]
    return dataclasses.replace(resolve(str(run / STUDENT)), name=base["name"], source=base["source"])


def lesson_of(run: Path, facts: dict[str, Any], labelled: Examples) -> tuple[Examples, Soft | None]:
    """Return all training rows of a run, and the teacher's answers to them if it has a teacher."""
    if "lesson" not in facts:
        return labelled, None
    soft = Soft(_load(run / ANSWERS), len(labelled), **facts["lesson"]["soft"])
    path = run / UNLABELLED
    if path.is_file():
        labelled = together(labelled, read(path, DataSettings(text_column="text"), labelled=False))
    return labelled, soft


def together(labelled: Examples, unlabelled: Examples) -> Examples:
    """Return rows with labels, then rows without."""
    if not len(unlabelled):
        return labelled
    texts = Texts(pairs=labelled.pairs)
    for part in (labelled, unlabelled):
        for text in part.texts:
            texts.append(text)
    return Examples(
        labelled.name,
        texts,
        [*labelled.labels, *unlabelled.labels],
        [*labelled.lines, *unlabelled.lines],
        kind=labelled.kind,
        columns=labelled.columns,
    )


def forget(run: Path) -> None:
    """Remove what only training needs."""
    shutil.rmtree(run / STUDENT, ignore_errors=True)
    (run / ANSWERS).unlink(missing_ok=True)


def beside_teacher(run: Path, facts: dict[str, Any], classifier: Classifier, measured: Examples) -> dict[str, Any]:
    """Return how the teacher does on the same rows, on what share of them both answer alike, and the student's size."""
    lesson = facts["lesson"]
    decision = Decision(tuple(facts["labels"]), facts["kind"], lesson["temperature"], tuple(lesson["thresholds"]))
    scores = probabilities(_load(run / MEASURED), decision)
    ours = chosen(classifier.predict_proba(measured.texts), classifier.decision)
    agreement = float((chosen(scores, decision) == ours).all(axis=1).mean())
    values = measure(measured.targets(decision.labels), scores, decision)
    kept = {name: values[name] for name in ("n", "accuracy", "macro_f1", "mcc", "log_loss", "ece")}
    teacher = {"name": lesson["teacher"], "bytes": lesson["bytes"], "metrics": kept, "agreement": agreement}
    return {"teacher": teacher, **size(run / "checkpoint")}


def size(checkpoint: Path) -> dict[str, int]:
    """Return how many layers and parameters a checkpoint has."""
    from safetensors import safe_open  # noqa: PLC0415 - comes with training

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    parameters = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            parameters += sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    return {"layers": layers_in(config), "parameters": parameters}


def layers_in(config: dict[str, Any]) -> int:
    """Return how many layers the `config.json` of an encoder names."""
    return int(config.get("num_hidden_layers", config.get("n_layers", 0)))


def teacher_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the report's table says of the teacher."""
    teacher = metrics["teacher"]
    values = ", ".join(f"{name} {teacher['metrics'][key]['value']:.3f}" for key, name in HEADLINES.items())
    return [
        (
            "teacher",
            f"{teacher['name']}: {values}; both answer alike on {100 * teacher['agreement']:.1f} % of the texts",
        ),
        ("size", f"{metrics['layers']} layers, {metrics['parameters'] / 1e6:.1f} million parameters"),
    ]


HEADLINES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "mcc": "MCC"}


def _save(path: Path, array: NDArray[np.float32]) -> None:
    """Write an array through Python's own file, which tells a full disk; numpy's can miss the end."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    path.write_bytes(buffer.getbuffer())


def _load(path: Path) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BundleDamaged(f"the teacher's answers in {path} cannot be read: {error}.", hint="distil again") from error
    return array
