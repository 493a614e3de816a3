"""Sections on training: time and quality, first choices, the first minutes, students, a million rows."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.markdown import machine, mean, table


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
                quality.append([dev, name, *(mean(of[dev][metric]) for metric in ("mcc", "accuracy", "macro_f1"))])
        for name, values in record["runs"]["bertie"][0]["baselines"][dev].items():
            quality.append([dev, name, *(f"{values[metric]:.3f}" for metric in ("mcc", "accuracy", "macro_f1"))])
    # 64 MFLOP a token forward and backward, 11 tokens a text, 8,551 texts.
    floor = 6.1e3 / record["gflops"]["bf16"]
    old, same = (found[name]["seconds_a_pass"] / ours for name in ("old recipe", "Trainer, batch 64"))
    rate, share = record["gflops"]["bf16"], 100 * floor / ours
    return f"""
## Training: time and quality on CoLA

`python -m benchmarks.train --data cola_public_1.1.zip`. The default base (all-MiniLM-L6-v2), all in one run, seed by
seed in turn. `bertie train` with its defaults of that day, {record["runs"]["bertie"][0]["passes"]} passes, cuts 5 % of
the 8,551 training rows to choose its checkpoint; its time is scaled to all rows and includes that validation. The
transformers `Trainer` (grouped by length, padded to the longest, bf16, learning rate 1e-4, as many passes) learns from
all of them. The old recipe is that of
the retired SageMaker sample: texts padded to 64 tokens, fp32, batch 64.

{table(["", "median seconds a pass", "times Bertie's", "seeds"], speed)}

A pass is {old:.1f} times as fast as the old recipe's and {plain / ours:.2f} times as fast as the Trainer's with 32
texts an update. Bertie takes 64 for a set of this size; with as many, the Trainer takes {same:.2f} times Bertie's time.
The floor that this machine's measured bf16 rate ({rate:.0f} GFLOP/s for a 2048³ product) allows for the 6.1 TFLOP of a
pass is {floor:.1f} s; Bertie reaches {share:.0f} % of it. What stands between is in the [lab notes](lab-notes.md).

Quality on the two published development files, which nobody has learned from: mean and 95 % t-interval over the seeds.
The baselines are those of seed 0's split.

{table(["development file", "", "MCC", "accuracy", "macro-F1"], quality)}

{machine(record)}
"""


def train_time(record: dict[str, Any]) -> str:
    """Return the section on the time of training where bf16 is slow."""
    found = record["summary"]
    ours = found["bertie"]["seconds_a_pass"]
    rows = [
        [
            name,
            record["runs"][name][0]["precision"],
            f"{of['seconds_a_pass']:.1f}",
            f"{of['seconds_a_pass'] / ours:.2f}",
        ]
        for name, of in found.items()
    ]
    rates, seeds = record["gflops"], found["bertie"]["seeds"]
    floor = 6.1e3 / rates["fp32"]
    return f"""
## Training on a processor without bf16

`python -m benchmarks.train --passes 1 --out benchmarks/results/train_time.json --data cola_public_1.1.zip`. As above,
but one pass, for its time alone ({seeds} run{"s" if seeds > 1 else ""} each). A product of 2048³ runs at
{rates["fp32"]:.0f} GFLOP/s in fp32 and {rates["bf16"]:.1f} in bf16 here, so that everybody computes in fp32:
`bertie train` finds that out by itself, and the `Trainer` was told.

{table(["", "format", "median seconds a pass", "times Bertie's"], rows)}

The floor that the fp32 rate allows for the 6.1 TFLOP of a pass is {floor:.0f} s; Bertie reaches
{100 * floor / ours:.0f} % of it.

{machine(record)}
"""


def train_speed(record: dict[str, Any]) -> str:
    """Return the section on speed by shape and length."""
    found = {(run["shape"], run["length"], run["who"]): run for run in record["runs"]}
    rows = []
    for shape, length in dict.fromkeys((run["shape"], run["length"]) for run in record["runs"]):
        ours, other = (found[shape, length, who] for who in ("bertie", "Trainer"))
        rates = [f"{run['texts_per_s']:,.1f}" for run in (ours, other)]
        rows.append([shape, length, ours["precision"], *rates, f"{ours['texts_per_s'] / other['texts_per_s']:.2f}"])
    where = "a GPU" if record["runs"][0]["device"] == "cuda" else "a CPU; no GPU was at hand"
    return f"""
## Training speed by shape and length

`python -m benchmarks.train_speed`, on {where}. Updates of 32 texts, random weights and tokens. `bertie train` leaves
the embeddings as they are, which the Trainer does not by itself; its batches are grouped by length and padded to the
longest.

{table(["shape", "tokens a text", "format", "Bertie, texts/s", "Trainer, texts/s", "times"], rows)}

{machine(record)}
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
    # Those that were measured most often first: what is chosen by default, then what differs from it in one setting.
    order = ("CoLA", "samples", "many-class")
    for (name, wanted), row in sorted(rows.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]["MCC"]))):
        passes = f"{sum(row['passes']) / len(row['passes']):.0f}"
        spread = f"{min(row['F1']):.3f} to {max(row['F1']):.3f}"
        means = [f"{sum(row[key]) / len(row[key]):.3f}" for key in ("MCC", "F1")]
        cells.append([name, wanted, str(len(row["passes"])), passes, *means, spread])
    return f"""
## Which settings are good first choices

`python -m benchmarks.defaults --data cola_public_1.1.zip`. One setting changed at a time, measured on rows that no
trial has seen: CoLA's two development files (their mean), and the test messages of the sample set; "many-class" is the
sample set with each label cut into four by k-means. By default `bertie train` takes 64 texts an update, or 16
below 5,000 rows, as many passes as make 600 updates (3 to 20), and a learning rate of 1e-4 that falls in a line after a
warm-up over a tenth of the updates, and stops early for nothing: five passes of 64 texts for CoLA, twelve of 16 for the
others. Differences of three points are within what seeds make. The base is all-MiniLM-L6-v2; for wider encoders the
rates of their authors (4e-5 and 2e-5) are taken, and nothing has been measured here.

{table(["set", "settings", "seeds", "passes", "MCC", "macro-F1", "macro-F1, least to most"], cells)}

{machine(record)}
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

{table(["seed or method", "macro-F1", "accuracy", "training, s"], rows + simple)}

{machine(record)}
"""


def distill(record: dict[str, Any]) -> str:
    """Return the section on students."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in record["trials"]:
        groups.setdefault((one["set"], _student(one["trial"])), []).append(one)
    rows = []
    for (name, who), found in groups.items():
        files = [file for file in ("in domain", "out of domain", "test") if file in found[0]]
        means = [[sum(one[file][key] for one in found) / len(found) for file in files] for key in ("mcc", "macro_f1")]
        cells = [" / ".join(f"{value:.3f}" for value in values) for values in means]
        agreement = [one[file].get("agreement") for one in found for file in files]
        alike = "" if agreement[0] is None else f"{100 * sum(agreement) / len(agreement):.0f} %"
        size = f"{found[0]['parameters'] / 1e6:.1f}"
        passes = str(found[0].get("passes", ""))
        rows.append([name, who, str(len(found)), passes, size, *cells, alike])
    head = ["set", "", "seeds", "passes", "million parameters", "MCC", "macro-F1", "answers as the teacher"]
    return f"""
## Smaller models: fewer layers, with and without a teacher

`python -m benchmarks.distill --data cola_public_1.1.zip --work FOLDER --choices`. The teacher is what `bertie train`
makes of the default base, with six layers. Students begin with some of the layers of that base, or of the teacher, and
learn from the labels alone, or (T, share) from the teacher's answers at temperature T, which have this share of the
loss beside the labels; "raw" answers are not divided first by the temperature that calibrates the teacher. Measured on
CoLA's two development files (in domain / out of domain), and on the test messages where the set is the samples.

{table(head, rows)}

{machine(record)}
"""


def _student(trial: dict[str, Any] | None) -> str:
    """Return one line on a student; None is the teacher."""
    if trial is None:
        return "**teacher, 6 layers**"
    which = "" if trial["which"] == "spread" else "first "
    start = "the teacher's" if trial["start"] == "teacher" else "the base's"
    share = trial["share"]
    raw = "" if trial["calibrated"] else ", raw"
    learned = "labels" if share is None else f"teacher (T {trial['temperature']:g}, share {share:g}{raw})"
    parts = [f"{which}{trial['layers']} of {start} layers", learned]
    return ", ".join([*parts, *(["vocabulary trimmed"] if trial["trimmed"] else [])])


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

{table(["stage", "first run, s", "peak, MB", "second run, s", "peak, MB"], rows)}

{table(["tokenizing", "texts", "texts/s", "peak above the start of the stage, kB a text"], rates)}

The tokenizers library alone, on all cores and with nothing kept, reads {megabytes:.1f} MB/s. The transformers tokenizer
was given its texts in one call, as is usual; {record["part"]:,} of them, because memory grows with their number.

{machine(record)}
"""


def _kilobytes(run: dict[str, Any]) -> float:
    """Return how much higher the peak of tokenizing is than that of the stage before it, for each text."""
    stages = list(run["peak_mb"])
    before = run["peak_mb"][stages[stages.index("tokenize") - 1]]
    return float(run["peak_mb"]["tokenize"] - before) * 1e3 / float(run["texts"])
