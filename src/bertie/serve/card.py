"""What people may know of the model that answers: from its manifest, without paths and without texts."""

from __future__ import annotations

from typing import Any

from bertie.config import ServeSettings
from bertie.runtime.classifier import Classifier
from bertie.runtime.engine import pick
from bertie.version import __version__


def card(classifier: Classifier, settings: ServeSettings) -> dict[str, Any]:
    """Return the card; a classifier that is from no bundle has no `bundle` in it."""
    decision = classifier.decision
    known: dict[str, Any] = {
        "name": settings.name,
        "bertie": __version__,
        "task": decision.kind,
        "pairs": classifier.pairs,
        "labels": list(decision.labels),
        "limits": {"max_texts": settings.max_texts, "max_body_bytes": settings.max_body_bytes},
    }
    if decision.kind == "multi-label":
        known["thresholds"] = list(decision.thresholds or (0.5,) * len(decision.labels))
    manifest = classifier.manifest
    if manifest is None:
        return known
    variant, why = pick(manifest)
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
