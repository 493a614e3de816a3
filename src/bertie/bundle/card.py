"""The bundle's README.md: what somebody who finds the folder needs to know."""

from __future__ import annotations

from typing import Any


def card(fields: dict[str, Any]) -> str:
    """Return the model card for the fields of a manifest."""
    provenance = fields.get("provenance", {})
    base = provenance.get("base", {})
    limits = fields["input"]
    texts = "pairs of texts" if limits["pairs"] else "texts"
    long = "are read in overlapping windows" if limits["long"] == "windows" else "are cut there"
    task = "each gets one label" if fields["task"] == "single-label" else "each gets any number of labels"
    return f"""# A text classifier

Classifies {texts}; {task}: {", ".join(f"`{label}`" for label in fields["labels"])}.

| | |
| --- | --- |
| base model | {base.get("source", "unknown")} |
| window | {limits["max_tokens"]} tokens; longer texts {long} |
| trained on | {provenance.get("rows", {}).get("train", "an unknown number of")} texts |
| written by | bertie {provenance.get("bertie", "")} |

{_quality(fields.get("quality", {}))}
## Use

```python
import bertie

classifier = bertie.load("path/to/this/folder")
classifier.predict({_example(limits["pairs"])})
```

or `bertie serve path/to/this/folder`. Neither needs PyTorch.
"""


def _example(pairs: bool) -> str:
    return '[("a text", "its partner")]' if pairs else '["a text"]'


def _quality(quality: dict[str, Any]) -> str:
    if "accuracy" not in quality:
        return ""
    rows = "\n".join(
        f"| {name} | {quality[key]['value']:.3f} | {quality[key]['low']:.3f} to {quality[key]['high']:.3f} |"
        for name, key in (("accuracy", "accuracy"), ("macro-F1", "macro_f1"), ("MCC", "mcc"))
    )
    return f"""## Quality

Measured through this bundle on {quality["n"]} {quality.get("on", "held-out")} texts.

| metric | value | 95 % interval |
| --- | --- | --- |
{rows}

"""
