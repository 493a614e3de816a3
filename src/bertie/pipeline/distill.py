"""`bertie distill`: a small student learns from a teacher's answers, also to texts without labels, and becomes a run.

The teacher answers through the runtime, so it may be a bundle that has no checkpoint. The student is trained by the
loop that trains all others; what is special about its run is in `lesson.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertie.bundle.manifest import Manifest
from bertie.config import DataSettings, DistillSettings, SplitSettings, TrainSettings
from bertie.data.check import check, is_empty, key
from bertie.data.examples import Examples, read
from bertie.errors import BundleDamaged, DataError, UsageError, need
from bertie.pipeline.lesson import STUDENT, Lesson, layers_in, together
from bertie.pipeline.load_data import Splits, load_splits, same_kind, same_shape
from bertie.pipeline.run_folder import Request, Run, refuse_other_folders
from bertie.pipeline.train_run import (
    announce,
    begin_and_train,
    finish,
    processes,
)
from bertie.runtime.classifier import Classifier, load
from bertie.talk import Talk
from bertie.tokens import Text
from bertie.train.base_models import Base, resolve
from bertie.train.job import Job
from bertie.train.layers import chosen_layers
from bertie.train.limits import text_encoder, text_limits
from bertie.train.soft import Soft

if TYPE_CHECKING:
    from bertie.train.vocabulary import Trimmed


@dataclass(frozen=True)
class DistillRequest:
    """What the user asked for. Without `data` the rows are those that the teacher, a run, learned from."""

    teacher: Path
    out: Path
    data: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    unlabelled: tuple[Path, ...] = ()
    overwrite: bool = False
    again: bool = False
    kills: int = 0

    @property
    def training(self) -> Request:
        """The part that is about training."""
        data = self.teacher if self.data is None else self.data
        return Request(data, self.out, self.valid, self.test, self.overwrite, self.again, self.kills)


def distill_run(
    request: DistillRequest,
    data: DataSettings,
    split: SplitSettings,
    settings: TrainSettings,
    distill: DistillSettings,
    talk: Talk,
) -> dict[str, Any]:
    """Let the teacher answer, train the student, export, evaluate and report; return what `--json` prints.

    Raises what `train_run` raises, and BundleError for a teacher that cannot be used; nothing is written before the
    teacher has answered.
    """
    cluster = processes()
    voice = talk if cluster.leads else Talk(quiet=True)
    if cluster.leads:
        refuse_other_folders(request.training)
    teacher = load(request.teacher)
    base = _base(request.teacher, distill)
    limits = text_limits(base, settings)
    of = layers_in(base.config)
    layers = chosen_layers(distill.layers or of, of, distill.which_layers)
    splits = _splits(request, teacher, data, split, voice)
    unlabelled = _unlabelled(request.unlabelled, data, splits, teacher, voice)
    announce(splits, base, voice)
    train = together(splits.train, unlabelled)
    voice.say(f"the teacher answers: {len(splits.train)} labelled and {len(unlabelled)} unlabelled texts")
    soft = Soft(answers_of(teacher, train.texts), len(splits.train), distill.temperature, distill.soft_share)
    with tempfile.TemporaryDirectory(prefix="bertie-") as place:
        student, trimmed = _shrink(
            base, teacher, layers, Path(place) / STUDENT, split.seed, distill, (train.texts, splits.valid.texts)
        )
        facts = {
            "teacher": request.teacher.resolve().name,
            **_of(teacher.manifest),
            "soft": {"temperature": soft.temperature, "share": soft.share},
            "unlabelled": len(unlabelled),
            "layers": [*layers],
            "layers_of_base": of,
            "pieces": None if trimmed is None else {"kept": trimmed.kept, "before": trimmed.before},
        }
        lesson = Lesson(soft, teacher.logits(splits.measured.texts), unlabelled, student, facts)
        saved = settings.model_copy(update={"base": base.name})
        job = Job(
            request.out,
            student,
            text_encoder(student, limits),
            train,
            splits.valid,
            teacher.labels,
            saved,
            split.seed,
            _fingerprint(splits, unlabelled),
            soft,
        )
        begin_and_train(request.training, splits, job, (data, split, saved, distill), voice, cluster, lesson)
    del splits, train, unlabelled, lesson, job  # as in train_run
    return finish(request.out, talk) if cluster.leads else {}


def answers_of(teacher: Classifier, texts: Sequence[Text]) -> NDArray[np.float32]:
    """Return the logits of the teacher's probabilities, [texts, labels], calibrated as it was on validation rows.

    A teacher is surer of the texts it has learned from than it is right; a student should not learn that too.
    """
    return teacher.logits(texts) / np.float32(teacher.decision.temperature)


def _of(manifest: Manifest | None) -> dict[str, Any]:
    """Return what the run keeps of a teacher: how its logits are read, its size and its hash."""
    if manifest is None:
        raise BundleDamaged("the teacher has no manifest.")
    file = manifest.files[manifest.variant().file]
    decision = {"temperature": manifest.temperature, "thresholds": [*manifest.thresholds]}
    return decision | {"bytes": file.bytes, "sha256": file.sha256}


def _base(teacher: Path, distill: DistillSettings) -> Base:
    """Find what the student starts from. Raises UsageError if a teacher without a checkpoint is to be that."""
    if distill.base:
        return resolve(distill.base)
    checkpoint = teacher / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        raise UsageError(
            f"{teacher} has no checkpoint that a student could start from.",
            expected="a run with its checkpoint, or a base for the student",
            hint="name one with --base, for example --base minilm",
        )
    return dataclasses.replace(resolve(str(checkpoint)), name=teacher.resolve().name, source="the teacher's checkpoint")


def _splits(
    request: DistillRequest, teacher: Classifier, data: DataSettings, split: SplitSettings, talk: Talk
) -> Splits:
    """Return the rows of DATA, or those of the teacher's run; all of the teacher's kind, shape and labels."""
    if request.data is not None:
        splits = load_splits(request.data, request.valid, request.test, data, split, talk)
    elif request.valid or request.test:
        raise UsageError("--valid and --test go with DATA.", hint="name the file of the training rows too")
    elif (request.teacher / "data.json").is_file():
        splits = _own(Run.open(request.teacher))
    else:
        raise UsageError(
            f"{request.teacher} is not a run, so it has no rows of its own.",
            hint=f"give labelled rows too: bertie distill {request.teacher} DATA --out {request.out}",
        )
    for part in filter(None, (splits.train, splits.valid, splits.test)):
        same_shape(part, pairs=teacher.pairs)
        same_kind(part, teacher.decision.kind)
        part.kind = teacher.decision.kind
        part.targets(teacher.labels)  # raises for a label that the teacher has never seen
    return splits


def _own(run: Run) -> Splits:
    train, valid = run.split("train"), run.split("valid")
    test = run.split("test") if run.facts["measured_on"] == "test" else None
    return Splits(train, valid, test, check([part for part in (train, valid, test) if part is not None]), {})


def _unlabelled(
    paths: Sequence[Path], settings: DataSettings, splits: Splits, teacher: Classifier, talk: Talk
) -> Examples:
    """Return the texts of files without labels, each once, without those that are empty or stand in a split already."""
    found = Examples("unlabelled", [], labelled=False, kind=splits.train.kind)
    known = {key(text) for part in (splits.train, splits.valid, splits.test) if part is not None for text in part.texts}
    texts, left_out = [], 0
    for path in paths:
        # Lines of plain text have no columns that could be named.
        wanted = DataSettings(encoding=settings.encoding) if ".txt" in path.suffixes else settings
        examples = read(path, wanted, labelled=False)
        if examples.bad and "bad-row" not in settings.drop.split(","):
            first = examples.bad[0]
            raise DataError(f"{path}, line {first.line}: {first.why}.", hint="correct it, or add --drop bad-row")
        if not len(examples):
            raise DataError(f"{path} has no texts.", expected="at least one text")
        same_shape(examples, pairs=teacher.pairs)
        for text in examples.texts:
            number = key(text)
            if number in known or is_empty(text):
                left_out += 1
                continue
            known.add(number)
            texts.append(text)
    if left_out:
        talk.say(f"left out {left_out} unlabelled texts: empty, twice, or among the labelled ones")
    if paths and not texts:
        raise DataError("no unlabelled text is left: all are empty or among the labelled ones.")
    found.texts, found.labels, found.lines = texts, [()] * len(texts), [*range(len(texts))]
    return found


def _shrink(
    base: Base,
    teacher: Classifier,
    layers: Sequence[int],
    out: Path,
    seed: int,
    distill: DistillSettings,
    texts: Sequence[Sequence[Text]],
) -> tuple[Base, Trimmed | None]:
    try:
        from bertie.train.shrink import shrink  # noqa: PLC0415 - imports PyTorch
    except ImportError as error:
        raise need("train", error) from error
    return shrink(
        base,
        teacher.labels,
        teacher.decision.kind,
        layers,
        out,
        seed=seed,
        texts=[text for part in texts for text in part] if distill.trim_vocabulary else None,
        frequent=distill.frequent_pieces,
    )


def _fingerprint(splits: Splits, unlabelled: Examples) -> str:
    """Return a sha256 over all rows, those without labels too."""
    digest = hashlib.sha256(splits.fingerprint.encode())
    for text in unlabelled.texts:
        digest.update(repr(text).encode())
    return digest.hexdigest()
