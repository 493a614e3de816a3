"""A checkpoint becomes an artifact for another tool: written, read back, compared with the trained model, kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bertie import disk
from bertie.data.examples import Examples
from bertie.errors import DependencyMissing, ExportError, OutputError
from bertie.evaluate.calibrate import calibrate
from bertie.export.export import Plan
from bertie.export.parity import Parity, compare, require
from bertie.export.targets import describe
from bertie.export.targets.target import Run, Target, Trained
from bertie.runtime.classifier import MAX_CELLS, MAX_ROWS
from bertie.scores import Decision
from bertie.tokens import TextEncoder, Tokens, by_length, pooled
from bertie.train.checkpoint import load as load_checkpoint
from bertie.train.forward import Padded, logits_of


def convert(checkpoint: Path, target: Target, out: Path, plan: Plan, valid: Examples) -> Parity:
    """Write a model for another tool into the new folder `out`, whole or not at all.

    `valid` are the texts on which what was written must agree with the trained model, and which fit the temperature.
    Raises BundleNotFound, ExportError, ParityError, DependencyMissing, OutputError.
    """
    disk.refuse_filled(out)
    trained = Trained(load_checkpoint(checkpoint), checkpoint)
    with disk.folder(out) as stage:
        _refuse_small_disk(stage, checkpoint)
        try:
            target.write(trained, stage)
            run = target.load(trained, stage)
        except Exception as error:  # each library raises errors of its own
            _refuse_small_disk(stage, checkpoint)
            if isinstance(error, ExportError | DependencyMissing):
                raise
            raise ExportError(
                f"the model cannot be exported, or not loaded again: {type(error).__name__}: {_first_line(error)}",
                hint="the checkpoint itself is unharmed; another --to may work",
            ) from error

        shutil.copyfile(checkpoint / "tokenizer.json", stage / "tokenizer.json")
        encoder = TextEncoder.from_file(stage / "tokenizer.json", plan.limits, plan.pad_id)
        tokens = encoder.encode(valid.texts)
        expected = logits_of(Padded(trained.model, torch.device("cpu"), plan.pad_id), tokens, MAX_CELLS)
        plain = Decision(plan.labels, plan.kind)
        parity = compare(expected, _logits(run, tokens, plan), plain)
        require(parity, plan.tolerance)

        decision = calibrate(expected, valid.targets(plan.labels), plain)
        facts = describe.about(plan, decision, trained.model.inputs)
        disk.write_text(stage / describe.ABOUT, describe.as_json(facts))
        disk.write_text(stage / describe.CARD, describe.card(plan, decision, trained.model.inputs, target))
    return parity


@torch.inference_mode()
def _logits(run: Run, tokens: Tokens, plan: Plan) -> NDArray[np.float32]:
    """Return the logits of all texts, [texts, labels]. Raises ExportError where a batch cannot be computed."""
    logits = np.empty((len(tokens.rows), len(plan.labels)), dtype=np.float32)
    for windows in by_length(tokens.lengths, MAX_ROWS, MAX_CELLS):
        inputs = tokens.pad(windows, plan.pad_id)
        try:
            logits[windows] = run(inputs)
        except Exception as error:  # each library raises errors of its own
            raise ExportError(
                f"the exported model cannot compute {len(windows)} texts of {inputs['input_ids'].shape[1]} tokens: "
                f"{type(error).__name__}: {_first_line(error)}",
                hint="nothing was written; another --to may work",
            ) from error
    return pooled(logits, tokens.rows, len(tokens.truncated))


def _refuse_small_disk(stage: Path, checkpoint: Path) -> None:
    """Raise OutputError where the disk is too small; asked after a failure too: libraries tell it in many ways.

    Twice the weights have to fit, since some targets make the ONNX graph on the way.
    """
    needed = 2 * sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    written = sum(file.stat().st_size for file in stage.rglob("*") if file.is_file())
    room = shutil.disk_usage(stage).free + written
    if room < needed:
        raise OutputError(
            f"cannot write to {stage.parent}: there is room for {room / 1e6:.1f} MB, and {needed / 1e6:.1f} MB are "
            "needed on the way.",
            hint="free some disk space",
        )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def files_of(out: Path) -> dict[str, Any]:
    """Return the names and the total size of the files in a folder, in bytes."""
    files = sorted(file for file in out.rglob("*") if file.is_file())
    return {
        "files": [str(file.relative_to(out)) for file in files],
        "bytes": sum(file.stat().st_size for file in files),
    }
