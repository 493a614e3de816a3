"""Scoring on CoLA's development texts: Bertie beside its peers, same checkpoint, same machine, one run.

    pip install -c constraints.txt -e ".[train,serve,optimize]"
    python -m benchmarks.infer --data PATH/cola_public_1.1.zip --work FOLDER

`bertie train` makes one checkpoint, `bertie optimize` two bundles of it, and the peers' own tools their forms of it.
Each contestant (`scoring/contestants.py`) has a process of its own, with strings in and labels out; the contestants
take turns for several rounds, each round begins with another one, so that a busy moment hits all. Peers have virtual
environments of their own, which are made in `FOLDER/environments`, with versions pinned in `scoring/environments.py`;
one that cannot be installed or fails is listed with the reason. The same program measures the ceiling that the
machine's matrix products set, the cold start of `bertie predict`, the size of the environment that serves, and whether
the chosen variants hold the accuracy contract on three sets. What is in FOLDER already is taken as it is.

The record goes to `benchmarks/results/infer.json`; `python -m benchmarks.tables` makes the page of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import alone, describe
from benchmarks.scoring import accuracy, ceiling, models, start
from benchmarks.scoring.contestants import CONTESTANTS, OLD, PEERS
from benchmarks.scoring.environments import REQUIREMENTS, CannotInstall, python_of
from bertie.bundle.manifest import FILE, Manifest
from bertie.config import DataSettings, OptimizeSettings
from bertie.data.examples import read
from bertie.evaluate.headline import intervals
from bertie.tokens import TextEncoder

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "infer.json"
SETTINGS = DataSettings(header=False, text_column="3", label_column="1")
GOALS = {"latency": "Bertie", "throughput": "Bertie, throughput"}
LIMIT_SECONDS = 600


class Failed(Exception):
    """A contestant gave no answer."""


def prepare(work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Make the run, both bundles and the peers' models; return what `optimize` said, and what could not be made."""
    raw = work / "cola" / "cola_public" / "raw"
    if not raw.is_dir():
        with zipfile.ZipFile(given.data) as archive:
            archive.extractall(work / "cola")
    run = work / "run"
    if given.run and not run.exists():
        run.symlink_to(given.run.resolve(), target_is_directory=True)
    with alone(given.lock):
        if not (run / "bundle").is_dir():
            accuracy.train_cola(raw, run)
        chosen = {}
        for goal in GOALS:
            if given.bundle:
                (work / goal).unlink(missing_ok=True)
                (work / goal).symlink_to(given.bundle.resolve(), target_is_directory=True)
            elif not (work / goal / FILE).is_file():
                chosen[goal] = accuracy.optimize(run, work / goal, goal)
    absent = {}
    texts = work / "train_texts.json"
    rows = read(raw / "in_domain_train.tsv", SETTINGS).texts
    texts.write_text(json.dumps([str(rows[row]) for row in range(models.CALIBRATION)]))
    for kind, (environment, _) in models.KINDS.items():
        done = work / "models" / f".{kind}"
        if done.is_file():
            continue
        try:
            python = python_of(environment, given.environments or work / "environments")
            module(python, "scoring.models", kind, str(run / "checkpoint"), str(work / "models"), str(texts))
            done.touch()
        except (CannotInstall, Failed) as error:
            absent[kind] = str(error)
    return {"optimize": chosen, "absent": absent}


def rounds(work: Path, texts: list[str], given: argparse.Namespace) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Let the contestants take turns; return the measurements of each, and why some have none."""
    names = [name for name in CONTESTANTS if not given.only or any(one in name for one in given.only)]
    found: dict[str, list[Any]] = {name: [] for name in names}
    absent: dict[str, str] = {}
    for turn in range(given.rounds):
        first = turn * len(names) // given.rounds
        for name in names[first:] + names[:first]:
            if name in absent:
                continue
            one = CONTESTANTS[name]
            places = {"checkpoint": work / "run" / "checkpoint"} | {goal: work / goal for goal in GOALS}
            folder = places.get(one.model, work / "models" / one.model)
            request = {"name": name, "folder": str(folder), "texts": texts, "seconds": given.seconds}
            try:
                python = python_of(one.environment, given.environments or work / "environments")
                with alone(given.lock):
                    answer = json.loads(module(python, "scoring.worker", request=json.dumps(request)))
            except (CannotInstall, Failed) as error:
                absent[name] = str(error)
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                continue
            found[name].append(answer)
            rate = max(len(texts) / np.median(passes) for passes in answer["passes"].values())
            p50 = np.median(answer["latency_us"]) / 1e3
            print(f"round {turn + 1}  {name}: p50 {p50:.2f} ms, {rate:.0f} texts/s", file=sys.stderr, flush=True)
    return {name: taken for name, taken in found.items() if taken and name not in absent}, absent


def module(python: Path, name: str, *arguments: str, request: str = "") -> str:
    """Run a module of the benchmarks in some Python; return its last line. Raises Failed with its last words."""
    paths = f"{ROOT / 'src'}:{ROOT}" if python == Path(sys.executable) else str(ROOT)
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "PYTHONPATH": paths}
    command = [python, "-m", f"benchmarks.{name}", *arguments]
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=os.environ | quiet,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no answer within {LIMIT_SECONDS} s") from error
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:300])
    return (done.stdout.strip().splitlines() or [""])[-1]


def summary(taken: list[dict[str, Any]], truth: list[str], reference: list[str]) -> dict[str, Any]:
    """Return the medians over the rounds of a contestant's figures, and how right its labels are.

    Percentiles are those of a round, over its texts. `reference` are the labels of the fp32 model in PyTorch.
    """
    percentiles = np.median([np.percentile(one["latency_us"], [50, 99]) for one in taken], axis=0) / 1e3
    rates = {size: [len(truth) / float(np.median(one["passes"][size])) for one in taken] for size in taken[0]["passes"]}
    best = max(rates, key=lambda size: float(np.median(rates[size])))
    answers = (taken[0]["labels_one"], taken[0]["labels_many"][best])
    quality = [_quality(labels, truth) for labels in answers]
    return {
        "p50_ms": float(percentiles[0]),
        "p99_ms": float(percentiles[1]),
        "p50_ms_by_round": [float(np.median(one["latency_us"])) / 1e3 for one in taken],
        "texts_per_s": float(np.median(rates[best])),
        "texts_per_s_by_round": rates[best],
        "batch": int(best),
        "peak_mb": float(np.median([one["peak_mb"] for one in taken])),
        "load_seconds": float(np.median([one["load_seconds"] for one in taken])),
        # One text alone and texts in batches may be rounded otherwise: what is worse counts.
        "mcc": min(one["mcc"] for one in quality),
        "accuracy": min(one["accuracy"] for one in quality),
        "macro_f1": min(one["macro_f1"] for one in quality),
        "agreement": min(
            float(np.mean([a == b for a, b in zip(labels, reference, strict=True)])) for labels in answers
        ),
        "versions": taken[0]["versions"],
    }


def _quality(labels: list[str], truth: list[str]) -> dict[str, float]:
    columns = sorted(set(truth))
    right, picked = (np.asarray([[one == name for name in columns] for one in row], int) for row in (truth, labels))
    return {name: value["value"] for name, value in intervals(right, picked, single=True).items()}


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return how many times as fast Bertie is: as the old path, the best peer, the best that predicts the same."""
    answer: dict[str, Any] = {}
    for goal, figure, sign in (("latency", "p50_ms", -1), ("throughput", "texts_per_s", 1)):
        ours, peers = found.get(GOALS[goal]), [name for name in PEERS if name in found]
        if ours is None or OLD not in found or not peers:
            continue
        answer[goal] = {"times": {name: (ours[figure] / found[name][figure]) ** sign for name in (OLD, *peers)}}
        for kind, some in (("best", peers), ("best_that_holds", [name for name in peers if holds(name, found)])):
            if some:
                name = max(some, key=lambda one: sign * found[one][figure])
                pairs = zip(ours[f"{figure}_by_round"], found[name][f"{figure}_by_round"], strict=True)
                by_round = [(a / b) ** sign for a, b in pairs]
                answer[goal][kind] = {"peer": name, "times": answer[goal]["times"][name], "by_round": by_round}
    return answer


def holds(name: str, found: dict[str, dict[str, Any]]) -> bool:
    """Return whether a contestant's labels are those of the trained model as far as Bertie's contract asks."""
    allowed, one = OptimizeSettings(), found[name]
    drop = found[OLD]["macro_f1"] - one["macro_f1"]
    return bool(one["agreement"] >= allowed.min_agreement and drop <= allowed.max_drop)


def limit(work: Path, texts: list[str], rates: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return the texts a second that the machine's matrix rate allows, and what share of it Bertie reaches."""
    folder = (work / "throughput").resolve()
    manifest = Manifest.from_file(folder / FILE)
    variant = manifest.variant()
    encoder = TextEncoder.from_file(folder / manifest.input.tokenizer, manifest.limits, manifest.input.pad_id)
    lengths = encoder.encode(texts).lengths.tolist()
    shape = json.loads((work / "run" / "checkpoint" / "config.json").read_text(encoding="utf-8"))
    counted = {"all": ceiling.operations(lengths, shape), "needed": ceiling.needed(lengths, shape)}
    best = {precision: max(of.values()) for precision, of in rates.items()}
    share = {variant.precision: 1.0}
    if variant.engine == "openvino" and variant.precision.startswith("int8"):
        quantized = ceiling.quantized_share(folder / variant.file)
        share = {"int8": quantized, "bf16" if "bf16" in variant.precision else "fp32": 1 - quantized}
    # Each part of the operations at the best rate of its precision.
    rate = 1 / sum(part / best[precision] for precision, part in share.items())
    answer = {
        "gops": rates,
        "precision": variant.precision,
        "variant": variant.name,
        "share_of_operations": share,
        "rate_gops": rate,
        "tokens_a_text": float(np.mean(lengths)),
        "mflop_a_text": {name: value / 1e6 for name, value in counted.items()},
        "ceiling_texts_per_s": {name: 1e9 * rate / value for name, value in counted.items()},
    }
    if GOALS["throughput"] in found:
        reached = found[GOALS["throughput"]]["texts_per_s"]
        answer["share"] = {name: reached / most for name, most in answer["ceiling_texts_per_s"].items()}
    return answer


def starts(work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure cold starts: here, and in environments with nothing but what serving needs."""
    answer: dict[str, Any] = {}
    engine = Manifest.from_file(work / "latency" / FILE).variant().engine
    for extras in dict.fromkeys(("serve", "serve,openvino" if engine == "openvino" else "serve")):
        python, answer[extras] = start.serving_environment(work / "serving", extras)
        bundle = work / "latency"
        with alone(given.lock):
            answer[extras] |= {
                "cold_start": start.cold_start([str(python.parent / "bertie")], bundle),
                **start.stages(python, bundle),
            }
    return answer


def main() -> None:
    """Run everything, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs, bundles, models and environments")
    parser.add_argument(
        "--environments", type=Path, help="the peers' virtual environments, WORK/environments if not given"
    )
    parser.add_argument("--run", type=Path, help="take this run on CoLA instead of training one")
    parser.add_argument("--bundle", type=Path, help="measure this bundle in the place of what bertie optimize chooses")
    parser.add_argument("--texts", type=int, help="only so many texts, to try the program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of throughput, for each number of texts a batch")
    parser.add_argument("--only", nargs="+", help="contestants, by part of their names")
    parser.add_argument("--skip", nargs="+", default=[], choices=["accuracy", "starts"], help="what to leave out")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while anything is timed")
    parser.add_argument("--out", type=Path, default=RESULT, help="the record")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    record: dict[str, Any] = {"benchmark": "infer", "machine": describe(), "rounds": given.rounds}
    record |= {"requirements": REQUIREMENTS, "notes": {name: one.note for name, one in CONTESTANTS.items()}}
    record |= prepare(work, given)
    raw_files = work / "cola" / "cola_public" / "raw"
    devs = [read(raw_files / f"{domain}_dev.tsv", SETTINGS) for domain in ("in_domain", "out_of_domain")]
    texts = [str(text) for dev in devs for text in dev.texts][: given.texts]
    truth = [str(*labels) for dev in devs for labels in dev.labels][: given.texts]
    with alone(given.lock):
        before = json.loads(module(Path(sys.executable), "scoring.ceiling"))
    taken, failed = rounds(work, texts, given)
    with alone(given.lock):
        after = json.loads(module(Path(sys.executable), "scoring.ceiling"))
    rates = {kind: {by: max(rate, after[kind].get(by, 0)) for by, rate in of.items()} for kind, of in before.items()}
    reference = taken[OLD][0]["labels_one"] if OLD in taken else []
    found = {name: summary(of, truth, reference) for name, of in taken.items()} if reference else {}
    record["absent"] |= failed
    record |= {
        "texts": len(texts),
        "summary": found,
        "ratios": ratios(found),
        "ceiling": limit(work, texts, rates, found),
    }
    if "starts" not in given.skip:
        record["starts"] = starts(work, given)
    if "accuracy" not in given.skip:
        with alone(given.lock):
            record["contract"] = accuracy.sets(work, work / "run")
    raw = {name: [{key: one[key] for key in ("latency_us", "passes")} for one in of] for name, of in taken.items()}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(compact(record | {"raw": raw}) + "\n", encoding="utf-8")
    print(json.dumps({name: record[name] for name in ("ratios", "ceiling", "absent")}))


def compact(record: dict[str, Any]) -> str:
    """Return JSON with a line for each list of numbers."""
    return re.sub(
        r"\[\s+([-\d.e,\s]+?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", json.dumps(record, indent=1)
    )


if __name__ == "__main__":
    main()
