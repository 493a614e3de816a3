"""Serving the model trained on CoLA: Bertie beside its peers, on one machine and in one run.

    pip install -c constraints.txt -e ".[train,serve,optimize]"
    python -m benchmarks.serve --data PATH/cola_public_1.1.zip --work FOLDER
    python -m benchmarks.serve overload --minutes 10 --data ... --work ...
    python -m benchmarks.serve soak --minutes 10 --data ... --work ...
    python -m benchmarks.serve replace --data ... --work ...
    python -m benchmarks.serve kill --data ... --work ...

Without a word before the flags everybody is compared: one request at a time, beside the runtime without a server; how
many requests a second are answered with the 99th percentile at 50 ms; and twice of what Bertie bears. The others have
Bertie alone, at a multiple (`--share`) of what it bore in that record: long overload, long load, a model that is
replaced by itself again and again, and processes that are killed.

Each server is a process of its own in an environment of its own (`scoring/environments.py` makes them), of the same
trained model; the load comes from another process on the same machine (`serving/load.py`), as do texts: single ones of
CoLA's development files. FOLDER is that of `benchmarks.infer`, and what is there is taken as it is.

The records go to `benchmarks/results/serve*.json`; `python -m benchmarks.tables` makes the page of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.infer import SETTINGS, Failed, compact, module
from benchmarks.machine import alone, describe
from benchmarks.scoring import accuracy, models
from benchmarks.scoring.environments import REQUIREMENTS, CannotInstall, python_of
from benchmarks.serving import disturb
from benchmarks.serving.capacity import holds, sustainable
from benchmarks.serving.contestants import CONTESTANTS, LIKE_PEERS, OURS
from benchmarks.serving.process import Failed as ServerFailed
from benchmarks.serving.process import growth
from benchmarks.serving.session import Session, opened
from bertie.bundle.manifest import FILE
from bertie.config import OptimizeSettings
from bertie.data.examples import read

RESULTS = Path(__file__).parent / "results"
P99_MS = 50.0
OVERLOAD = 2.0
ALONE_RATE = 10.0
"""Requests a second, evenly spaced, of the measurement of single ones; below what anybody bears on a slow processor."""
LOOSE = ("--max-drop", 1, "--min-agreement", 0, "--candidates", "onnx-int8-dynamic,onnx-int8-dynamic-small")
"""No contract: so do the peers that serve int8 unasked."""
MIN_AGREEMENT = OptimizeSettings().min_agreement
KINDS = ("optimum-onnx", "onnxruntime", "infinity")
"""The forms of the model that the peers need, of `scoring/models.py`, in the order in which they are made."""


def prepare(work: Path, given: argparse.Namespace) -> tuple[dict[str, Path], list[str], dict[str, str]]:
    """Return the model's folders by name, the development texts, and what could not be made."""
    raw = work / "cola" / "cola_public" / "raw"
    if not raw.is_dir():
        with zipfile.ZipFile(given.data) as archive:
            archive.extractall(work / "cola")
    run, bundle = work / "run", given.bundle or work / "latency"
    if given.run and not run.exists():
        run.symlink_to(given.run.resolve(), target_is_directory=True)
    with alone(given.lock):
        if not (run / "bundle").is_dir():
            accuracy.train_cola(raw, run)
        if not (bundle / FILE).is_file():
            accuracy.optimize(run, bundle, "latency")
        if given.what == "compare" and not (work / "int8" / FILE).is_file():
            accuracy.optimize(run, work / "int8", "throughput", *LOOSE)
    files = [read(raw / f"{domain}_dev.tsv", SETTINGS) for domain in ("in_domain", "out_of_domain")]
    texts = [str(text) for file in files for text in file.texts][: given.texts]
    absent = _peers(work, run, given) if given.what == "compare" else {}
    folders = {
        "bundle": bundle.resolve(),
        "int8": work / "int8",
        "checkpoint": run / "checkpoint",
        "infinity": work / "models" / "infinity",
    }
    return folders, texts, absent


def _peers(work: Path, run: Path, given: argparse.Namespace) -> dict[str, str]:
    absent = {}
    none = work / "no_texts.json"  # for calibration, which these forms do without
    none.write_text("[]", encoding="utf-8")
    for kind in KINDS:
        done = work / "models" / f".{kind}"
        if done.is_file():
            continue
        try:
            python = python_of(models.KINDS[kind][0], given.environments or work / "environments")
            module(python, "scoring.models", kind, str(run / "checkpoint"), str(work / "models"), str(none))
            done.touch()
        except (CannotInstall, Failed) as error:
            absent[kind] = str(error)
    return absent


def compare(given: argparse.Namespace, work: Path, folders: dict[str, Path], texts: list[str]) -> dict[str, Any]:
    """Measure everybody; return what a record holds beside the machine."""
    request = {"folder": str(folders["bundle"]), "texts": texts, "rate": ALONE_RATE, "seconds": given.alone_seconds}
    names = [name for name in CONTESTANTS if not given.only or any(one in name for one in given.only)]
    found: dict[str, Any] = {name: {"rounds": []} for name in names}
    absent: dict[str, str] = {}
    bare = []
    for turn in range(given.rounds):
        with alone(given.lock):
            bare.append(json.loads(module(Path(sys.executable), "serving.bare", request=json.dumps(request))))
        # Each round begins with another one.
        first = turn * len(names) // given.rounds
        for name in names[first:] + names[:first]:
            if name in absent:
                continue
            try:
                with alone(given.lock), opened(name, work, folders, texts, given) as session:
                    found[name]["rounds"].append(measured(session, found[name]["rounds"], given))
            except (CannotInstall, ServerFailed, Failed) as error:
                absent[name] = str(error)
            print(f"round {turn + 1}  {name}: {_line(found[name], absent.get(name))}", file=sys.stderr, flush=True)
    kept = {name: summary(of["rounds"]) | of for name, of in found.items() if of["rounds"] and name not in absent}
    answer = {"summary": kept, "absent": absent, "bare": [_without(one, "labels") for one in bare]}
    if OURS in kept:
        answer["same_as_runtime"] = kept[OURS]["rounds"][0]["labels"] == bare[0]["labels"]
        with alone(given.lock), opened(OURS, work, folders, texts, given) as session:
            answer["overload"] = loaded(session, OVERLOAD * kept[OURS]["rate"], given.overload_seconds)
    for of in kept.values():
        of["agreement"] = statistics.mean(
            a == b for a, b in zip(of["rounds"][0]["labels"], bare[0]["labels"], strict=True)
        )
        of["rounds"] = [_without(one, "labels") for one in of["rounds"]]
    return answer | {"goals": goals(answer)}


def measured(session: Session, before: list[dict[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    """Return what one server does, freshly started: single requests, and how many it bears."""
    single = session.load(ALONE_RATE, given.alone_seconds, even=True)
    good = partial(holds, p99_ms=P99_MS)
    # What an earlier round found is where the search begins.
    first = before[-1]["capacity"]["rate"] if before else 0

    def measure(rate: float, longer: bool) -> dict[str, Any]:
        return session.load(rate, given.confirm_seconds if longer else given.step_seconds)

    capacity = sustainable(measure, good, 0.9 * first or session.contestant.first_rate)
    # Alone, so that a server that was asked for too much has not to do with the one after it.
    return {"alone": single, "capacity": capacity, "labels": session.labels, "server": session.server.sample()}


def loaded(session: Session, rate: float, seconds: float) -> dict[str, Any]:
    """Return what a rate comes to, and the server's memory, files and threads while it lasts."""
    session.load(rate / 4, min(5.0, seconds))
    since = len(session.server.samples)
    report = session.load(rate, seconds)
    samples = session.server.samples[since:]
    kept = {name: growth(samples, name) for name in ("mb", "files", "threads")}
    return report | {"growth": kept, "samples": samples}


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds."""
    confirmed = [one["capacity"]["confirmed"] for one in rounds if one["capacity"]["confirmed"]]
    return {
        "alone_p50_ms": statistics.median(one["alone"]["ms"]["p50"] for one in rounds),
        "alone_p99_ms": statistics.median(one["alone"]["ms"]["p99"] for one in rounds),
        "rate": statistics.median(one["capacity"]["rate"] for one in rounds),
        "p50_ms": statistics.median(one["ms"]["p50"] for one in confirmed) if confirmed else None,
        "p99_ms": statistics.median(one["ms"]["p99"] for one in confirmed) if confirmed else None,
        "server_us": statistics.median(one["server_us"] for one in confirmed) if confirmed else None,
        "load_us": statistics.median(one["load_us"] for one in confirmed) if confirmed else None,
        "mb": max(one["server"]["mb"] for one in rounds),
    }


def goals(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the project has promised of serving, and what was measured of it."""
    found, ours = record["summary"], record["summary"].get(OURS)
    if ours is None:
        return {}
    bare = statistics.median(one["paced_ms"]["p50"] for one in record["bare"])
    peers = {name: of["rate"] for name, of in found.items() if name not in {OURS, LIKE_PEERS}}
    best = max(peers, key=lambda name: peers[name], default=None)
    # Those that keep the labels as our contract demands, of the texts that are compared.
    alike = {name: rate for name, rate in peers.items() if found[name]["agreement"] >= MIN_AGREEMENT}
    best_alike = max(alike, key=lambda name: alike[name], default=None)
    loose = found[LIKE_PEERS]["rate"] if LIKE_PEERS in found else None
    over = record["overload"]
    answered = sum(over["statuses"].get(status, 0) for status in ("200", "429"))
    return {
        "added_ms": ours["alone_p50_ms"] - bare,
        "best_peer": best,
        "times_best_peer": ours["rate"] / peers[best] if best and peers[best] else None,
        "best_peer_within_contract": best_alike,
        "times_best_peer_within_contract": ours["rate"] / alike[best_alike]
        if best_alike and alike[best_alike]
        else None,
        "int8_times_best_peer": loose / peers[best] if loose and best and peers[best] else None,
        "share_of_ceiling": ours["rate"] / statistics.median(one["texts_per_s"] for one in record["bare"]),
        "overload_p99_ms": over["ms"].get("p99"),
        "overload_neither_200_nor_429": over["sent"] - answered,
        "overload_hangs": over["hangs"],
    }


def single(given: argparse.Namespace, work: Path, folders: dict[str, Path], texts: list[str]) -> dict[str, Any]:
    """Load Bertie alone as a subcommand says; return what a record holds beside the machine."""
    rate = given.rate or given.share * json.loads(_file("compare").read_text(encoding="utf-8"))["summary"][OURS]["rate"]
    seconds = 60 * given.minutes
    with alone(given.lock), opened(OURS, work, folders, texts, given) as session:
        if given.what in {"overload", "soak"}:
            return {"rate": rate, "report": loaded(session, rate, seconds)}
        act: Callable[..., Any] = {"replace": disturb.replace, "kill": disturb.kill}[given.what]
        with disturb.every(given.every, partial(act, session)) as acts:
            report = loaded(session, rate, seconds)
    if given.what == "kill" and not any(act.get("pid") for act in acts):
        raise SystemExit("nothing was killed: the server has no processes of its own; --serve workers 2")
    return {"rate": rate, "report": report, "acts": acts}


def _line(found: dict[str, Any], why: str | None) -> str:
    if why or not found["rounds"]:
        return f"absent: {why}"
    last = found["rounds"][-1]
    return f"alone p50 {last['alone']['ms']['p50']:.2f} ms, {last['capacity']['rate']:.0f} requests/s"


def _without(one: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key not in names}


def _file(what: str) -> Path:
    return RESULTS / ("serve.json" if what == "compare" else f"serve_{what}.json")


SHARES = {"compare": 0.0, "overload": OVERLOAD, "soak": 0.5, "replace": 0.5, "kill": 0.5}
MINUTES = {"compare": 0.0, "overload": 10.0, "soak": 10.0, "replace": 1.0, "kill": 1.0}


def main() -> None:
    """Run what is asked for, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="compare", choices=list(SHARES))
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--work", type=Path, required=True, help="folder for run, bundle, models and environments")
    parser.add_argument("--environments", type=Path, help="the peers' environments, WORK/environments if not given")
    parser.add_argument("--run", type=Path, help="take this run on CoLA instead of training one")
    parser.add_argument("--bundle", type=Path, help="serve this bundle in the place of WORK/latency")
    parser.add_argument("--serve", nargs="+", default=[], metavar="WORD", help="words for bertie serve, without dashes")
    parser.add_argument("--texts", type=int, help="only so many texts, to try the program")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone-seconds", type=float, default=30, help="of single requests")
    parser.add_argument("--step-seconds", type=float, default=5, help="of a step of the search")
    parser.add_argument("--confirm-seconds", type=float, default=20, help="of the run that confirms a rate")
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--minutes", type=float, help="of all but the comparison")
    parser.add_argument("--share", type=float, help="of what Bertie bears, in all but the comparison")
    parser.add_argument("--rate", type=float, help="requests a second, in the place of --share")
    parser.add_argument("--every", type=float, default=10, help="seconds between replacements, or deaths")
    parser.add_argument("--only", nargs="+", help="contestants, by part of their names")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while anything is timed")
    parser.add_argument("--out", type=Path, help="the record")
    given = parser.parse_args()
    given.share = SHARES[given.what] if given.share is None else given.share
    given.minutes = MINUTES[given.what] if given.minutes is None else given.minutes
    if given.what == "kill" and not given.serve:
        given.serve = ["workers", "2"]
    given.serve = [f"--{word}" if not word[0].isdigit() else word for word in given.serve]
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    folders, texts, absent = prepare(work, given)
    record: dict[str, Any] = {"benchmark": "serve", "what": given.what, "machine": describe(), "texts": len(texts)}
    record["options"] = {
        name: value for name, value in vars(given).items() if isinstance(value, int | float | list) and value
    }
    if given.what == "compare":
        record |= {"requirements": REQUIREMENTS, "notes": {name: one.note for name, one in CONTESTANTS.items()}}
        record |= compare(given, work, folders, texts)
        record["absent"] |= absent
        print(json.dumps({name: record[name] for name in ("goals", "absent")}))
    else:
        record |= single(given, work, folders, texts)
        print(json.dumps(_without(record["report"], "samples") | {"acts": record.get("acts")}))
    out = given.out or _file(given.what)
    out.parent.mkdir(exist_ok=True)
    out.write_text(compact(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
