"""Writes docs/benchmarks.md from the records in benchmarks/results; `--check` says whether it is up to date.

python -m benchmarks.tables [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Written by `make docs` from the records in `benchmarks/results/`; edit the programs, not this page. Machines differ and
are noisy: compare the rows of one table, which come from one run, and quote ratios.
"""


def page() -> str:
    """Return the whole page."""
    sections = [HEAD]
    for name, write in (("cola", cola), ("demo", demo), ("million_rows", million_rows)):
        path = RESULTS / f"{name}.json"
        if path.is_file():
            sections.append(write(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(sections)


def cola(record: dict[str, Any]) -> str:
    """Return the section on CoLA."""
    ours, theirs = record["summary"]["bertie"], record["summary"]["transformers Trainer"]
    rows = []
    for dev in ("in domain", "out of domain"):
        for name, summary in record["summary"].items():
            rows.append([dev, name, *(_mean(summary[dev][metric]) for metric in ("mcc", "accuracy", "macro_f1"))])
        first = record["runs"]["bertie"][0]["baselines"][dev]
        for name, values in first.items():
            rows.append([dev, name, *(f"{values[metric]:.3f}" for metric in ("mcc", "accuracy", "macro_f1"))])
    speed = [
        [name, f"{summary['seconds_a_pass']:.1f}", f"{summary['train_seconds']:.0f}"]
        for name, summary in record["summary"].items()
    ]
    ratio = theirs["seconds_a_pass"] / ours["seconds_a_pass"]
    # 64 MFLOP a token forward and backward, 11 tokens a text, 8,551 texts: see the module's first lines.
    floor = 6.1e3 / record["gflops"]["bf16"]
    seeds = len(record["runs"]["bertie"])
    return f"""
## CoLA: quality and time of training

`python -m benchmarks.cola --data cola_public_1.1.zip`. The default base (all-MiniLM-L6-v2), {seeds} seeds; mean and
95 % t-interval over the seeds. `bertie train` with its defaults cuts 5 % of the 8,551 training rows to choose its
checkpoint; the transformers `Trainer` (grouped by length, padded to the longest, bf16, batch 32, learning rate 1e-4,
3 passes) learns from all of them. Both are measured on the published development files, which neither has seen.

{_table(["development file", "", "MCC", "accuracy", "macro-F1"], rows)}

{_table(["", "seconds a pass", "seconds in all"], speed)}

A pass takes Bertie {1 / ratio:.2f} times the Trainer's time ({ratio:.2f} times as fast), its validation after each pass
included. The floor that this machine's measured bf16 rate ({record["gflops"]["bf16"]:.0f} GFLOP/s for a 2048³ product)
allows for the 6.1 TFLOP of a pass is {floor:.0f} s; Bertie reaches {100 * floor / ours["seconds_a_pass"]:.0f} % of it.
The baselines are those of seed 0's split.

{_machine(record)}
"""


def demo(record: dict[str, Any]) -> str:
    """Return the section on the demo."""
    runs = record["runs"]
    rows = [
        [str(run["seed"]), f"{run['macro_f1']:.3f}", f"{run['accuracy']:.3f}", f"{run['train_seconds']:.0f}"]
        for run in runs
    ]
    simple = [[name, f"{value:.3f}", "", ""] for name, value in runs[0]["baselines"].items()]
    return f"""
## The sample set

`python -m benchmarks.demo`. The default base and settings on the 1,205 support messages that ship with the package,
measured through the exported bundle on their {runs[0]["n"]} test messages.

{_table(["seed or method", "macro-F1", "accuracy", "training, s"], rows + simple)}

{_machine(record)}
"""


def million_rows(record: dict[str, Any]) -> str:
    """Return the section on a million rows."""
    runs = record["runs"]
    first, second, theirs, ceiling = (runs[name] for name in ("first", "second", "transformers", "ceiling"))
    rows = []
    for stage, seconds in first["seconds"].items():
        again = [f"{second['seconds'][stage]:.1f}", f"{second['peak_mb'][stage]:,}"]
        rows.append([stage, f"{seconds:.1f}", f"{first['peak_mb'][stage]:,}", *again])
    sums = (sum(run["seconds"].values()) for run in (first, second))
    peaks = (run["peak_mb_of_all"] for run in (first, second))
    rows.append(["all", *(cell for s, p in zip(sums, peaks, strict=True) for cell in (f"{s:.1f}", f"{p:,}"))])
    rates = [
        ["tokenizers alone", f"{ceiling['texts']:,}", f"{ceiling['texts_per_s']:,}", ""],
        ["bertie", f"{first['texts']:,}", f"{first['texts_per_s']:,}", f"{_kilobytes(first):.1f}"],
        ["transformers", f"{theirs['texts']:,}", f"{theirs['texts_per_s']:,}", f"{_kilobytes(theirs):.1f}"],
    ]
    megabytes = ceiling["bytes"] / ceiling["seconds"]["tokenize"] / 1e6
    return f"""
## A million rows: memory and time before training

`python -m benchmarks.million_rows`. {record["rows"]:,} rows of 50 words, {record["file_mb"]} MB: what `bertie train`
does up to the first update of the weights, with PyTorch imported. The second run finds the tokens that the first kept.
Peaks are those of resident memory, pages of mapped files included.

{_table(["stage", "first run, s", "peak, MB", "second run, s", "peak, MB"], rows)}

{_table(["tokenizing", "texts", "texts/s", "peak above the start of the stage, kB a text"], rates)}

The tokenizers library alone, on all cores and with nothing kept, reads {megabytes:.1f} MB/s. The transformers tokenizer
was given its texts in one call, as is usual; {record["part"]:,} of them, because memory grows with their number.

{_machine(record)}
"""


def _kilobytes(run: dict[str, Any]) -> float:
    """Return how much higher the peak of tokenizing is than that of the stage before it, for each text."""
    stages = list(run["peak_mb"])
    before = run["peak_mb"][stages[stages.index("tokenize") - 1]]
    return float(run["peak_mb"]["tokenize"] - before) * 1e3 / float(run["texts"])


def _mean(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(record: dict[str, Any]) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['cores']} cores of {machine['processor']}"
    return f"Measured {machine['date']} at {machine['commit']} on {where}; {versions}."


def main() -> None:
    """Write the page, or with `--check` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/benchmarks.md does not say what the records say: run `make docs`")


if __name__ == "__main__":
    main()
