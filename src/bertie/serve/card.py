"""What people may know of the model that answers: from its manifest, without paths and without texts."""

from __future__ import annotations

from typing import Any

from bertie.runtime.classifier import Classifier
from bertie.runtime.engine import pick
from bertie.version import __version__


def card(classifier: Classifier, name: str) -> dict[str, Any]:
    """Return the card of a model that is served by a name; one that is from no bundle has no `bundle` in it."""
    decision = classifier.decision
    known: dict[str, Any] = {
        "name": name,
        "bertie": __version__,
        "task": decision.kind,
        "pairs": classifier.pairs,
        "labels": list(decision.labels),
    }
    if decision.kind == "multi-label":
        known["thresholds"] = list(decision.thresholds or (0.5,) * len(decision.labels))
    manifest, variant = classifier.manifest, classifier.variant
    if manifest is None or variant is None:
        return known
    _, why = pick(manifest)
    base = manifest.provenance.get("base", {})
    known["bundle"] = {
        "base": {key: base[key] for key in ("name", "source") if key in base},
        "rows": manifest.provenance.get("rows", {}),
        "written_by": manifest.provenance.get("bertie"),
        "input": manifest.input.model_dump(include={"max_tokens", "long", "max_windows"}),
        "variant": variant.model_dump(include={"name", "engine", "precision", "device"})
        | {"bytes": sum(manifest.files[name].bytes for name in variant.files), "note": why},
        "quality": manifest.quality,
    }
    return known
