"""The section on answering: latency, throughput, what limits them, cold start and the contract."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.markdown import limits, machine, table


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
    flop = most["mflop_a_text"]
    parts = ", ".join(f"{100 * part:.0f} % {precision}" for precision, part in most["share_of_operations"].items())
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

{table(head, rows)}

{table(compared, times)}
{chr(10).join(["", *absent, ""]) if absent else ""}
### The ceiling

A text has {most["tokens_a_text"]:.1f} tokens and takes {flop["all"]:.0f} MFLOP: 2 for each weight of the layers and
each token, and 4 · tokens² · width a layer for attention. {flop["needed"]:.0f} are left without what no label needs,
the last layer's other tokens. The best products of 2048³ that this machine gave, in the precisions of the chosen
variant, {most["variant"]} ({parts}), allow {most["ceiling_texts_per_s"]["all"]:,.0f} texts/s. Bertie reaches
{100 * share["all"]:.0f} % of it; {100 * share["needed"]:.0f} % where only what is needed counts.

{table(["precision", "product by", "10⁹ operations/s", "texts/s"], rates)}
{_starts(record)}{_contract(record)}{limits("infer")}
{machine(record)}
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

{table(["environment", "MB on disk", "first answer, s", "end of the process, s"], rows)}

{table(["of which, ms", *names], stages)}

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
half a point of macro-F1 lost, at least 99 % of the labels the same. {record.get("contract_note", "")}

{table(["set", "goal", "chosen", "texts", "macro-F1 lost, points", "agrees, %"], rows)}
"""
