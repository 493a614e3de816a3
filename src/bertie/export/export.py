"""A checkpoint becomes a bundle: graph, parity, calibration, quality, manifest; whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bertie import disk
from bertie.bundle.manifest import Input, Manifest, Variant
from bertie.bundle.probe import Probe
from bertie.bundle.write import write
from bertie.data.examples import Examples
from bertie.evaluate.calibrate import calibrate
from bertie.export.onnx import write_onnx
from bertie.export.parity import compare, require
from bertie.runtime.classifier import MAX_CELLS, Classifier
from bertie.runtime.engine import start
from bertie.scores import Decision
from bertie.tokens import TextEncoder, TextLimits
from bertie.train.checkpoint import load as load_checkpoint
from bertie.train.forward import Padded, logits_of

PORTABLE = Variant(
    name="onnx-fp32", file="model.onnx", weights="model.onnx.data", engine="onnxruntime", precision="fp32"
)
"""The variant that every bundle has, and every machine can run."""


@dataclass(frozen=True)
class Plan:
    """What the bundle is to say beside the weights."""

    labels: tuple[str, ...]
    kind: Any
    pairs: bool
    limits: TextLimits
    pad_id: int
    tolerance: float
    provenance: dict[str, Any] = field(default_factory=dict)


def export(
    checkpoint: Path, out: Path, plan: Plan, valid: Examples, measure: Callable[[Classifier], dict[str, Any]]
) -> Manifest:
    """Write the bundle of a checkpoint to `out`, in the place of an older one.

    `valid` are the texts on which the exported model must agree with the trained one, and which fit the temperature
    and the thresholds where they have labels. `measure` returns the quality of the finished classifier. Raises
    ExportError, ParityError.
    """
    model = load_checkpoint(checkpoint)
    with disk.folder(out, replace=True) as stage:
        write_onnx(model, stage / PORTABLE.file)
        shutil.copyfile(checkpoint / "tokenizer.json", stage / "tokenizer.json")
        encoder = TextEncoder.from_file(stage / "tokenizer.json", plan.limits, plan.pad_id)
        engine = start(stage, PORTABLE)
        raw = Classifier(encoder, engine, Decision(plan.labels, plan.kind), pairs=plan.pairs)

        logits = raw.logits(valid.texts)
        # As transformers computes it, not as training does: an independent witness.
        trained = logits_of(Padded(model, torch.device("cpu"), plan.pad_id), encoder.encode(valid.texts), MAX_CELLS)
        parity = compare(trained, logits, raw.decision)
        require(parity, plan.tolerance)

        decision = calibrate(logits, valid.targets(plan.labels), raw.decision) if valid.labelled else raw.decision
        classifier = Classifier(encoder, engine, decision, pairs=plan.pairs)
        fields = {
            "task": plan.kind,
            "labels": plan.labels,
            "input": _input(plan),
            "temperature": decision.temperature,
            "thresholds": decision.thresholds,
            "variants": [PORTABLE.model_dump()],
            "chosen": PORTABLE.name,
            "quality": measure(classifier),
            "parity": parity.as_dict(),
            "provenance": plan.provenance,
        }
        return write(stage, fields, Probe.record(classifier.predict_proba, pairs=plan.pairs))


def _input(plan: Plan) -> dict[str, Any]:
    limits = plan.limits
    return Input(
        max_tokens=limits.max_tokens,
        long=limits.long,
        overlap=limits.overlap,
        max_windows=limits.max_windows,
        pairs=plan.pairs,
        pad_id=plan.pad_id,
    ).model_dump()
