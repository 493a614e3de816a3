"""What lies beside the model in every export: `about.json` for programs, `README.md` with a working example."""

from __future__ import annotations

import json
from typing import Any

from bertie.export.export import Plan
from bertie.export.targets.target import Target
from bertie.scores import Decision

ABOUT = "about.json"
CARD = "README.md"

_SOFTMAX = (
    "scores = np.exp(scaled - scaled.max(axis=1, keepdims=True))\nscores /= scores.sum(axis=1, keepdims=True)",
    "the one with the highest score is the answer",
)
_SIGMOID = (
    "scores = 1 / (1 + np.exp(-scaled))",
    "those are the answer whose score is at least theirs of the `thresholds` in `about.json`",
)
_WINDOWS = "\n- Longer texts: bertie averages the logits of overlapping windows; the example cuts the text."


def about(plan: Plan, decision: Decision, inputs: list[str]) -> dict[str, Any]:
    """Return what a program has to know beside the weights."""
    return {
        "task": decision.kind,
        "labels": list(decision.labels),
        "pairs": plan.pairs,
        "inputs": inputs,
        "max_tokens": plan.limits.max_tokens,
        "pad_id": plan.pad_id,
        "temperature": decision.temperature,
        "thresholds": list(decision.thresholds),
        "provenance": plan.provenance,
    }


def card(plan: Plan, decision: Decision, inputs: list[str], target: Target) -> str:
    """Return a README that says how to use the model, with Python that runs in its folder."""
    texts = '[("a text", "its partner"), ("another, longer text", "its own")]'
    if not plan.pairs:
        texts = '["a text", "another, longer text"]'
    scores, reading = _SOFTMAX if decision.kind == "single-label" else _SIGMOID
    windows = _WINDOWS if plan.limits.long == "windows" else ""
    inside = ", ".join(f"`{name}`" for name in inputs)
    return f"""# A text classifier

Labels: {", ".join(f"`{label}`" for label in decision.labels)}; {reading}.

- Inputs: {inside}, int64, of any shape `[rows, tokens]` up to {plan.limits.max_tokens} tokens.{windows}
- Output: logits `[rows, labels]`, in the order of `labels` in `about.json`, to be divided by the temperature there.

In this folder:

```python
import json
from pathlib import Path

import numpy as np
{target.imports}
about = json.loads(Path("{ABOUT}").read_text(encoding="utf-8"))
texts = {texts}
{target.usage}scaled = logits / about["temperature"]
{scores}
print(json.dumps([dict(zip(about["labels"], row)) for row in scores.tolist()], ensure_ascii=False))
```
"""


def as_json(values: dict[str, Any]) -> str:
    """Return the text of `about.json`."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
