"""`bertie export --to`: a run becomes a model for another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertie.config import TrainSettings
from bertie.errors import UsageError, nearest, need
from bertie.pipeline.run_folder import Run
from bertie.talk import Talk
from bertie.tokens import TextLimits
from bertie.version import __version__


def convert_run(folder: Path, to: str, out: Path, talk: Talk) -> dict[str, Any]:
    """Write the model of a run for another tool; return what `bertie export --to --json` prints.

    Raises UsageError for a target that is not known, BundleNotFound, and what `convert` raises.
    """
    run = Run.open(folder)
    try:
        from bertie.export.export import Plan  # noqa: PLC0415 - imports PyTorch
        from bertie.export.targets.convert import convert, files_of  # noqa: PLC0415
        from bertie.export.targets.targets import TARGETS  # noqa: PLC0415
    except ImportError as error:
        raise need("train", error) from error
    if to not in TARGETS:
        raise UsageError(
            f"there is no export to {to!r}.", expected=f"one of {', '.join(TARGETS)}", hint=nearest(to, TARGETS)
        )
    facts = run.facts
    plan = Plan(
        labels=tuple(facts["labels"]),
        kind=facts["kind"],
        pairs=facts["pairs"],
        limits=TextLimits(**facts["limits"]),
        pad_id=facts["pad_id"],
        tolerance=TrainSettings.load(environment={}, file=folder / "config.toml").tolerance,
        provenance={"bertie": __version__, "base": facts["base"], "fingerprint": facts["fingerprint"]},
    )
    talk.say(f"exporting to {to}, and comparing what was written with the trained model")
    parity = convert(folder / "checkpoint", TARGETS[to], out, plan, run.split("valid"))
    return {"to": to, "out": str(out), **files_of(out), "parity": parity.as_dict()}
