"""Time and quality of training on CoLA: `bertie train` beside what else there is, same base, same rows, several seeds.

    pip install -c constraints.txt --group bench
    python -m benchmarks.train --data PATH/cola_public_1.1.zip --seeds 5

- bertie: `bertie train` as a user types it. It cuts 5 % of the rows to choose its checkpoint; others learn from all.
- Trainer: transformers' own, at its best on a CPU: grouped by length, padded to the longest, bf16 where that is faster;
  with 32 and 64 texts an update. As many passes as Bertie makes, at the learning rate that suits this base.
- old recipe: that of the retired SageMaker sample, written anew: every text padded to 64 tokens, fp32, 64 texts an
  update, AdamW; one pass, for its time alone.

All are measured on the two published development files, which none has seen. Bertie's time includes its validation
after each pass, and is given for a pass over as many rows as the others'. The last line of the output is the record,
which also goes to `benchmarks/results/train.json`. `--passes 1 --out benchmarks/results/train_time.json` is for the
time alone, on a processor on which all of it would take hours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import alone, describe, matrix_rates
from benchmarks.tables import training as tables
from bertie.config import DataSettings
from bertie.data.examples import Examples, read
from bertie.evaluate.headline import intervals
from bertie.train.base_models import resolve

RESULT = Path(__file__).parent / "results" / "train.json"
COLUMNS = ("--no-header", "--text-column", "3", "--label-column", "1")
SETTINGS = DataSettings(header=False, text_column="3", label_column="1")
DEVS = {"in domain": "in_domain_dev.tsv", "out of domain": "out_of_domain_dev.tsv"}
PASSES, RATE = 5, 1e-4
"""What Bertie does by default with this set and base."""
ROWS = 8551
OLD_LENGTH, OLD_BATCH, OLD_RATE = 64, 64, 2e-5


def bertie(folder: Path, work: Path, seed: int, passes: int | None) -> dict[str, Any]:
    """Train as a user would, with the defaults, and evaluate the bundle on both development files."""
    run = work / f"bertie-{seed}"
    train = [folder / "in_domain_train.tsv", "--test", folder / DEVS["in domain"], "--valid-share", "0.05"]
    limit = () if passes is None else ("--max-passes", passes)
    result = _bertie("train", *train, *COLUMNS, "--out", run, "--seed", seed, *limit)
    training = json.loads((run / "training.json").read_text())
    rows = json.loads((run / "data.json").read_text())["rows"]["train"]
    scores = {name: _bertie("evaluate", run, folder / file, *COLUMNS) for name, file in DEVS.items()}
    return {
        "seed": seed,
        "train_seconds": result["train_seconds"],
        "passes": training["passes"],
        # The rows that choose the checkpoint are not learned from: as long as a pass over all rows would take.
        "seconds_a_pass": result["train_seconds"] / training["passes"] * ROWS / rows,
        "precision": training["precision"],
        **{name: _headline(metrics) for name, metrics in scores.items()},
        "baselines": {name: {b["name"]: _headline(b) for b in m["baselines"]} for name, m in scores.items()},
    }


def _bertie(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "bertie", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _headline(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: metrics[name]["value"] for name in ("accuracy", "macro_f1", "mcc")}


def trainer(folder: Path, work: Path, seed: int, passes: int | None, batch: int) -> dict[str, Any]:
    """Train with the transformers Trainer at its best: grouped by length, padded to the longest, bf16 if faster."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from benchmarks.serving.servers.scorer import fastest

    bf16, passes = fastest() is torch.bfloat16, passes or PASSES
    base = resolve("minilm").folder
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = read(folder / "in_domain_train.tsv", SETTINGS)
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    arguments = TrainingArguments(
        output_dir=str(work / f"trainer-{seed}"),
        num_train_epochs=passes,
        per_device_train_batch_size=batch,
        learning_rate=RATE,
        warmup_steps=0.1,
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        bf16=bf16,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    taught = Trainer(
        model, arguments, train_dataset=_dataset(rows, tokenizer), data_collator=DataCollatorWithPadding(tokenizer)
    )
    started = time.perf_counter()
    taught.train()
    seconds = time.perf_counter() - started
    answer: dict[str, Any] = {
        "seed": seed,
        "train_seconds": seconds,
        "passes": passes,
        "seconds_a_pass": seconds / passes,
        "precision": "bf16" if bf16 else "fp32",
    }
    for name, file in DEVS.items():
        dev = read(folder / file, SETTINGS)
        # Grouping by length also orders the rows of `predict`: the truth comes from its own output, in that order.
        output = taught.predict(_dataset(dev, tokenizer))
        truth, picked = (np.eye(2, dtype=int)[np.asarray(a)] for a in (output.label_ids, output.predictions.argmax(1)))
        answer[name] = _headline(intervals(truth, picked, single=True))
    return answer


def old_recipe(folder: Path, work: Path, seed: int, passes: int | None) -> dict[str, Any]:
    """Make one pass as the retired sample did."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    base = resolve("minilm").folder
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).train()
    rows = read(folder / "in_domain_train.tsv", SETTINGS)
    tokens = AutoTokenizer.from_pretrained(base)(
        [str(text) for text in rows.texts],
        padding="max_length",
        truncation=True,
        max_length=OLD_LENGTH,
        return_tensors="pt",
    )
    truth = torch.from_numpy(rows.targets(("0", "1")).argmax(axis=1).astype("int64"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=OLD_RATE)
    started = time.perf_counter()
    for some in torch.randperm(len(truth)).split(OLD_BATCH):
        inputs = {name: tokens[name][some] for name in ("input_ids", "attention_mask")}
        model.zero_grad()
        model(**inputs, labels=truth[some]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - started
    return {"seed": seed, "train_seconds": seconds, "passes": 1, "seconds_a_pass": seconds, "precision": "fp32"}


def _dataset(rows: Examples, tokenizer: Any) -> list[dict[str, Any]]:
    encoded = tokenizer([str(text) for text in rows.texts], truncation=True)
    labels = rows.targets(("0", "1")).argmax(axis=1).tolist()
    return [
        {"input_ids": ids, "attention_mask": mask, "label": label, "length": len(ids)}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
    ]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and t interval over the seeds of each metric, and the median time of a pass."""
    answer: dict[str, Any] = {
        "seconds_a_pass": statistics.median(run["seconds_a_pass"] for run in runs),
        "train_seconds": statistics.median(run["train_seconds"] for run in runs),
        "seeds": len(runs),
    }
    for name in DEVS if DEVS.keys() <= runs[0].keys() else ():
        answer[name] = {
            metric: _mean([run[name][metric] for run in runs]) for metric in ("accuracy", "macro_f1", "mcc")
        }
    return answer


def _mean(values: list[float]) -> dict[str, float]:
    from scipy import stats

    mean = statistics.mean(values)
    if len(values) < 2:
        return {"mean": mean, "low": mean, "high": mean}
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


CONTESTANTS = {
    "bertie": (bertie, None),
    "Trainer, batch 32": (partial(trainer, batch=32), None),
    "Trainer, batch 64": (partial(trainer, batch=64), None),
    "old recipe": (old_recipe, 1),
}
"""What runs, and for how many of the seeds at most."""


def main() -> None:
    """Run all contestants in turn, seed by seed, each in a process of its own, so that a busy moment hits all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--passes", type=int, help="only so many, for the time alone")
    parser.add_argument("--out", type=Path, default=RESULT, help="the record")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while anything is timed")
    parser.add_argument("--one", nargs=3, metavar=("CONTESTANT", "SEED", "FOLDER"), help="run one, and print it")
    given = parser.parse_args()
    if given.one:
        name, seed, folder = given.one
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(CONTESTANTS[name][0](Path(folder), Path(place), int(seed), given.passes)))
        return
    record: dict[str, Any] = {"benchmark": "train", "machine": describe()}
    with alone(given.lock):
        record["gflops"] = matrix_rates()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(given.data) as archive:
            archive.extractall(place)
        folder = str(Path(place) / "cola_public" / "raw")
        for seed in range(given.seeds):
            for name, (_, most) in CONTESTANTS.items():
                if most is not None and seed >= most:
                    continue
                command = [sys.executable, "-m", "benchmarks.train", "--data", str(given.data)]
                command += [] if given.passes is None else ["--passes", str(given.passes)]
                with alone(given.lock):
                    done = subprocess.run(
                        [*command, "--one", name, str(seed), folder], stdout=subprocess.PIPE, text=True, check=True
                    )
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, json.dumps(runs[name][-1]), file=sys.stderr, flush=True)
            record |= {"runs": runs, "summary": {name: summary(found) for name, found in runs.items() if found}}
            given.out.parent.mkdir(exist_ok=True)
            given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print((tables.train if given.passes is None else tables.train_time)(record), file=sys.stderr)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
