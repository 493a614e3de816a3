"""What `bertie bench` does: find texts, measure the bundle on them, say what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertie.bench.machine import describe
from bertie.bench.measure import measure
from bertie.bench.prices import Machine, cost_per_million
from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.read import opened
from bertie.config import DataSettings
from bertie.errors import DataUnreadable
from bertie.pipeline.load_data import read_files
from bertie.talk import Talk
from bertie.tokens import Text


def bench_model(
    model: Path,
    talk: Talk,
    *,
    lines: Sequence[str] = (),
    variant: str | None = None,
    threads: int = 0,
    seconds: float = 1.0,
    price: Machine | None = None,
) -> dict[str, Any]:
    """Measure a run, bundle or archive on this machine; return what `bertie bench --json` prints.

    `lines` hold one text each; for a model of pairs, a tab between the two. Without them, a run is measured on its test
    rows, and a bundle alone on the texts of its probe. Raises BundleError, DataError, BenchError.
    """
    with opened(model) as folder:
        manifest = Manifest.from_file(folder / FILE)
        named = manifest.variant(variant).name
        texts, on = (_texts(lines, manifest.input.pairs), "the texts given") if lines else _own_texts(model)
        talk.say(f"measuring {named} on {len(texts):,} texts: {on}" if texts else f"measuring {named} on {on}")
        speed = measure(folder, texts, variant=variant, threads=threads, seconds=seconds).as_dict()
    facts = {**speed, "on": on, "variant": named, "threads": threads, "machine": describe()}
    if price is not None:
        cost = float(f"{cost_per_million(price.usd_per_hour, speed['texts_per_s']):.4g}")
        facts |= {"price_per_hour": price.usd_per_hour, "priced_as": price.name, "cost_per_million": cost}
    return facts


def _texts(lines: Sequence[str], pairs: bool) -> list[Text]:
    if not pairs:
        return list(lines)
    parts = [line.split("\t", 1) for line in lines]
    for number, part in enumerate(parts, start=1):
        if len(part) != 2:
            raise DataUnreadable(
                f"line {number} holds one text, and this model reads pairs.", expected="a tab between the two texts"
            )
    return [(first, second) for first, second in parts]


def _own_texts(model: Path) -> tuple[Sequence[Text], str]:
    """Return the texts that a run has been tested on, and what they are called."""
    for split in ("test", "valid"):
        path = model / "splits" / f"{split}.jsonl"
        if path.is_file():
            return read_files([path], DataSettings(text_column="text", label_column="label"))[0][0].texts, str(path)
    return (), "the texts of the bundle's probe; --input gives others"
