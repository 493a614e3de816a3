"""The sections on servers: what each bears, overload, long load, and replacements and deaths under load."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.serving.contestants import OURS
from benchmarks.tables.markdown import limits, machine, table


def serve(record: dict[str, Any]) -> str:
    """Return the section on servers of one model."""
    found, bare, goals, notes = (record[name] for name in ("summary", "bare", "goals", "notes"))
    rows = [
        [
            name,
            f"{of['alone_p50_ms']:.2f}",
            f"{of['alone_p99_ms']:.2f}",
            f"{of['rate']:,.0f}",
            *("–" if of[key] is None else f"{of[key]:,.0f}" for key in ("p50_ms", "p99_ms", "server_us", "load_us")),
            f"{of['mb']:,.0f}",
            f"{100 * of['agreement']:.1f}",
            notes[name],
        ]
        for name, of in found.items()
    ]
    head = ["", "alone: p50, ms", "p99, ms", "requests/s", "p50 then, ms", "p99 then, ms"]
    head += ["CPU of the server, µs a request", "of the load", "MB", "agrees, %", "how"]
    paced = median(one["paced_ms"]["p50"] for one in bare)
    texts = median(one["texts_per_s"] for one in bare)
    absent = [f"- {name}: not measured: {why}" for name, why in record["absent"].items()]
    over = record.get("overload")
    return f"""
## Serving

`python -m benchmarks.serve --data cola_public_1.1.zip --work FOLDER`. One model, the default base trained on CoLA; each
server a process in an environment of its own, asked for single development texts over HTTP on the same machine, which
makes the load too. Alone: evenly spaced, one at a time. Requests/s: the highest rate of a Poisson process for which
99 % of the answers come within 50 ms and at most one in a thousand is refused, found by bisection and confirmed by a
longer run. Times count from when a request was due. {_rounds(record["options"].get("rounds", 1))}

{table(head, rows)}

The runtime by itself, without a server, takes {paced:.2f} ms for texts at the same distances (p50), and scores
{texts:,.0f} texts/s in batches with nothing else to do: the ceiling.
{_goals(goals)}
{chr(10).join(["", *absent, ""]) if absent else ""}{_overload(over) if over else ""}
{limits("serve")}{machine(record)}
"""


def _rounds(count: int) -> str:
    return f"Medians over {count} rounds." if count > 1 else "One round."


def _goals(goals: dict[str, Any]) -> str:
    if not goals:
        return ""
    times, peer = goals["times_best_peer"], goals["best_peer"]
    more = f" It bears {times:.2f} times as many requests as {peer}." if times else ""
    if goals.get("times_best_peer_within_contract") and goals["best_peer_within_contract"] != peer:
        alike = goals["best_peer_within_contract"]
        more += f" Of the peers that keep 99 % of the labels {alike} bears most, and it "
        more += f"{goals['times_best_peer_within_contract']:.2f} times as many."
    if goals.get("int8_times_best_peer"):
        more += f" With int8 outside the contract it bears {goals['int8_times_best_peer']:.2f} times as many as {peer}:"
        more += " no more because its labels change with the company that a text has in a batch, which counts as wrong."
    return (
        f"{OURS}'s server adds {goals['added_ms']:.2f} ms, and reaches {100 * goals['share_of_ceiling']:.0f} % of the "
        f"ceiling.{more}"
    )


def _overload(report: dict[str, Any]) -> str:
    return f"""
### Overload

At twice the rate that Bertie bears, for {report["seconds"]:.0f} s. {_counts(report)}
"""


def _counts(report: dict[str, Any]) -> str:
    """Return in words what a load came to."""
    answered, refused = (report["statuses"].get(status, 0) for status in ("200", "429"))
    others = report["sent"] - answered - refused
    memory = report["growth"].get("mb")
    held = f" Memory: {memory['begin']:,.0f} MB at first, {memory['end']:,.0f} at the end." if memory else ""
    p99 = f"{report['ms']['p99']:.0f} ms p99" if report["ms"] else "none"
    return (
        f"Of {report['sent']:,} requests {answered:,} were answered ({p99}), {refused:,} refused with 429, "
        f"{others:,} came to something else, {report['hangs']:,} hung.{held}"
    )


def lasting(record: dict[str, Any]) -> str:
    """Return the section on one long load on Bertie."""
    titles = {
        "overload": "Serving: overload for long",
        "soak": "Serving: load for long",
        "replace": "Serving: the model is replaced under load",
        "kill": "Serving: processes are killed under load",
    }
    report, acts = record["report"], record.get("acts", [])
    parts = [
        [str(place + 1), f"{good:,}", "–" if p99 is None else f"{p99:.1f}"]
        for place, (good, p99) in enumerate(zip(report["good_by_part"], report["p99_by_part"], strict=True))
    ]
    growth = [
        [name, *(f"{of[key]:,.0f}" for key in ("begin", "end", "most"))] for name, of in report["growth"].items() if of
    ]
    done = f" It happened {len(acts)} times." if acts else ""
    return f"""
## {titles[record["what"]]}

`python -m benchmarks.serve {record["what"]}`: {record["rate"]:,.0f} requests/s for {report["seconds"]:.0f} s.
{_counts(report)}{done}

{table(["tenth", "answered", "p99, ms"], parts)}

{table(["", "at first", "at the end", "most"], growth)}

{machine(record)}
"""
