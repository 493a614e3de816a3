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
    for name, write in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            sections.append(write(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(sections)


def train(record: dict[str, Any]) -> str:
    """Return the section on the time and quality of training."""
    found = record["summary"]
    ours, plain = found["bertie"]["seconds_a_pass"], found["Trainer, batch 32"]["seconds_a_pass"]
    speed = [
        [name, f"{of['seconds_a_pass']:.1f}", f"{of['seconds_a_pass'] / ours:.2f}", str(of["seeds"])]
        for name, of in found.items()
    ]
    quality = []
    for dev in ("in domain", "out of domain"):
        for name, of in found.items():
            if dev in of:
                quality.append([dev, name, *(_mean(of[dev][metric]) for metric in ("mcc", "accuracy", "macro_f1"))])
        for name, values in record["runs"]["bertie"][0]["baselines"][dev].items():
            quality.append([dev, name, *(f"{values[metric]:.3f}" for metric in ("mcc", "accuracy", "macro_f1"))])
    # 64 MFLOP a token forward and backward, 11 tokens a text, 8,551 texts.
    floor = 6.1e3 / record["gflops"]["bf16"]
    old, same = (found[name]["seconds_a_pass"] / ours for name in ("old recipe", "Trainer, batch 64"))
    rate, share = record["gflops"]["bf16"], 100 * floor / ours
    return f"""
## Training: time and quality on CoLA

`python -m benchmarks.train --data cola_public_1.1.zip`. The default base (all-MiniLM-L6-v2), all in one run, seed by
seed in turn. `bertie train` with its defaults cuts 5 % of the 8,551 training rows to choose its checkpoint; its time is
scaled to all rows and includes that validation. The transformers `Trainer` (grouped by length, padded to the longest,
bf16, learning rate 1e-4, 3 passes) learns from all of them. The old recipe is that of the retired SageMaker sample:
texts padded to 64 tokens, fp32, batch 64.

{_table(["", "median seconds a pass", "times Bertie's", "seeds"], speed)}

A pass is {old:.1f} times as fast as the old recipe's and {plain / ours:.2f} times as fast as the Trainer's with 32
texts an update. Bertie takes 64 for a set of this size; with as many, the Trainer takes {same:.2f} times Bertie's time.
The floor that this machine's measured bf16 rate ({rate:.0f} GFLOP/s for a 2048³ product) allows for the 6.1 TFLOP of a
pass is {floor:.1f} s; Bertie reaches {share:.0f} % of it. What stands between is in the [lab notes](lab-notes.md).

Quality on the two published development files, which nobody has learned from: mean and 95 % t-interval over the seeds.
The baselines are those of seed 0's split.

{_table(["development file", "", "MCC", "accuracy", "macro-F1"], quality)}

{_machine(record)}
"""


def defaults(record: dict[str, Any]) -> str:
    """Return the section on the choice of settings."""
    rows: dict[tuple[str, str], dict[str, list[float]]] = {}
    for trial in record["trials"]:
        wanted = ", ".join(f"{name} {value}" for name, value in trial["settings"].items())
        row = rows.setdefault((trial["set"], wanted), {"passes": [], "seconds": [], "MCC": [], "F1": []})
        measured = [value for value in trial.values() if isinstance(value, dict) and "mcc" in value]
        row["passes"].append(trial["passes"])
        row["MCC"].append(sum(value["mcc"] for value in measured) / len(measured))
        row["F1"].append(sum(value["macro_f1"] for value in measured) / len(measured))
    cells = []
    for (name, wanted), row in rows.items():
        passes = f"{sum(row['passes']) / len(row['passes']):.0f}"
        spread = f"{min(row['F1']):.3f} to {max(row['F1']):.3f}"
        means = [f"{sum(row[key]) / len(row[key]):.3f}" for key in ("MCC", "F1")]
        cells.append([name, wanted, str(len(row["passes"])), passes, *means, spread])
    return f"""
## Which settings are good first choices

`python -m benchmarks.defaults --data cola_public_1.1.zip`. One setting changed at a time, measured on rows that no
trial has seen: CoLA's two development files (their mean), and the test messages of the sample set; "many-class" is the
sample set with each label cut into four by k-means. The first row of each set holds the defaults.

{_table(["set", "settings", "seeds", "passes", "MCC", "macro-F1", "macro-F1, least to most"], cells)}

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


def infer(record: dict[str, Any]) -> str:
    """Return the section on scoring."""
    found, ratios, most, notes = (record[name] for name in ("summary", "ratios", "ceiling", "notes"))
    rows = [
        [
            name,
            f"{of['p50_ms']:.2f}",
            f"{of['p99_ms']:.2f}",
            f"{of['texts_per_s']:,.0f}" + (f" ({of['batch']})" if of["batch"] else ""),
            f"{of['peak_mb']:.0f}",
            f"{of['mcc']:.3f}",
            f"{100 * of['agreement']:.1f}",
            notes[name],
        ]
        for name, of in found.items()
    ]
    head = ["", "p50, ms", "p99, ms", "texts/s (batch)", "peak, MB", "MCC", "agrees, %", "how"]
    times = [
        [
            goal,
            f"{of['times']['old sample']:.1f}",
            kinds,
            f"{of[kind]['times']:.2f}",
            of[kind]["peer"],
            _range(of[kind]),
        ]
        for goal, of in ratios.items()
        for kind, kinds in (("best", "any"), ("best_that_holds", "within the accuracy contract"))
        if kind in of
    ]
    absent = [f"- {name}: not measured: {why}" for name, why in record["absent"].items()]
    share = most.get("share", {"all": 0.0, "needed": 0.0})
    compared = [
        "Bertie is faster",
        "than the old sample, times",
        "peers",
        "than their best, times",
        "it is",
        "by round",
    ]
    flop, limits = most["mflop_a_text"], RESULTS / "infer.md"
    rates = [
        [precision, by, f"{rate:,.0f}", f"{1e3 * rate / flop['all']:,.0f}"]
        for precision, of in most["gops"].items()
        for by, rate in of.items()
    ]
    return f"""
## Scoring: one text, and many

`python -m benchmarks.infer --data cola_public_1.1.zip --work FOLDER`. One checkpoint, the default base trained on CoLA
with the defaults; {record["texts"]} development texts, {record["rounds"]} rounds in turn, each contestant in a process
of its own and in the form that its own tools make of the checkpoint; strings in, labels out. p50 and p99 are over the
texts, one at a time; texts/s are over all of them, with the best number of texts a batch. Figures are medians over the
rounds. The agreement is that with the labels of the fp32 model in PyTorch, alone or in batches, whichever is lower.

{_table(head, rows)}

{_table(compared, times)}
{chr(10).join(["", *absent, ""]) if absent else ""}
### The ceiling

A text has {most["tokens_a_text"]:.1f} tokens and takes {flop["all"]:.0f} MFLOP: 2 for each weight of the layers and
each token, and 4 · tokens² · width a layer for attention. {flop["needed"]:.0f} are left without what no label needs,
the last layer's other tokens. The best product of 2048³ that this machine gave in the precision of the chosen variant,
{most["variant"]} ({most["precision"]}), allows {most["ceiling_texts_per_s"]["all"]:,.0f} texts/s. Bertie reaches
{100 * share["all"]:.0f} % of it; {100 * share["needed"]:.0f} % where only what is needed counts.

{_table(["precision", "product by", "10⁹ operations/s", "texts/s"], rates)}
{_starts(record)}{_contract(record)}{limits.read_text(encoding="utf-8") if limits.is_file() else ""}
{_machine(record)}
"""


def _range(ratio: dict[str, Any]) -> str:
    rounds = ratio["by_round"]
    return f"{min(rounds):.2f} to {max(rounds):.2f}"


def _starts(record: dict[str, Any]) -> str:
    """Return the part on cold starts and the environment that serves; nothing if they were not measured."""
    rows, stages, heavy = [], [], []
    for extras, of in record.get("starts", {}).items():
        cold = of["cold_start"]
        figures = (f"{cold[name]:.2f}" for name in ("median_first_line_s", "median_exit_s"))
        rows.append([f"bertie[{extras}]", f"{of['mb']:.0f}", *figures])
        stages.append([extras, *(f"{1e3 * seconds:.0f}" for seconds in of["stages_s"].values())])
        heavy.append(f"- bertie[{extras}]: " + ", ".join(f"{name} {mb:.0f}" for name, mb in of["packages"].items()))
    if not rows:
        return ""
    names = list(next(iter(record["starts"].values()))["stages_s"])
    return f"""
### Cold start, and the environment that serves

`bertie predict BUNDLE TEXT --json` from an environment into which nothing else was installed; medians of ten starts,
files in the system's cache. There is no torch in it.

{_table(["environment", "MB on disk", "first answer, s", "end of the process, s"], rows)}

{_table(["of which, ms", *names], stages)}

The heaviest packages, MB:

{chr(10).join(heavy)}
"""


def _contract(record: dict[str, Any]) -> str:
    """Return the part on the accuracy contract; nothing if it was not measured."""
    rows = []
    for name, goals in record.get("contract", {}).items():
        for goal, found in goals.items():
            one = next(one for one in found["candidates"] if one["name"] == found["chosen"])
            drop, agreement = f"{100 * one['drop']:+.2f}", f"{100 * one['agreement']:.2f}"
            rows.append([name, goal, found["chosen"], f"{found['texts']:,}", drop, agreement])
    if not rows:
        return ""
    return f"""
### The accuracy contract

What `bertie optimize` chose, and how it compares with the trained model on texts that nobody has learned from: at most
half a point of macro-F1 lost, at least 99 % of the labels the same.

{_table(["set", "goal", "chosen", "texts", "macro-F1 lost, points", "agrees, %"], rows)}
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


SECTIONS = {"train": train, "infer": infer, "defaults": defaults, "demo": demo, "million_rows": million_rows}
"""What writes the section of each record, in their order on the page."""


def main() -> None:
    """Write the page, or with `--check` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/benchmarks.md does not say what the records say: run `make docs`")


if __name__ == "__main__":
    main()
