"""Quality and time on CoLA: `bertie train` beside a plain transformers recipe, same base, same rows, several seeds.

    pip install -c constraints.txt --group bench
    python -m benchmarks.cola --data PATH/cola_public_1.1.zip --seeds 3

Both learn from `raw/in_domain_train.tsv`. Bertie cuts 5 % of it to choose its checkpoint; the recipe learns from all
of it and keeps the last. Both are measured on the two published development files, which neither has seen. Inside
the clock of "train seconds": the passes over the rows, with Bertie's validation after each. The last line of the
output is the record, which also goes to `benchmarks/results/cola.json`.
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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe, matrix_rates
from bertie.config import DataSettings
from bertie.data.examples import Examples, read
from bertie.evaluate.headline import intervals
from bertie.train.base_models import resolve

RESULT = Path(__file__).parent / "results" / "cola.json"
COLUMNS = ("--no-header", "--text-column", "3", "--label-column", "1")
SETTINGS = DataSettings(header=False, text_column="3", label_column="1")
DEVS = {"in domain": "in_domain_dev.tsv", "out of domain": "out_of_domain_dev.tsv"}
PASSES, BATCH, RATE = 3, 32, 1e-4


def bertie(folder: Path, work: Path, seed: int) -> dict[str, Any]:
    """Train as a user would, with the defaults, and evaluate the bundle on both development files."""
    run = work / f"bertie-{seed}"
    train = [folder / "in_domain_train.tsv", "--test", folder / DEVS["in domain"], "--valid-share", "0.05"]
    result = _bertie("train", *train, *COLUMNS, "--out", run, "--seed", seed)
    training = json.loads((run / "training.json").read_text())
    scores = {name: _bertie("evaluate", run, folder / file, *COLUMNS) for name, file in DEVS.items()}
    return {
        "seed": seed,
        "train_seconds": result["train_seconds"],
        "passes": training["passes"],
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


def recipe(folder: Path, work: Path, seed: int) -> dict[str, Any]:
    """Train with the transformers Trainer at its best: grouped by length, padded to the longest, bf16."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    base = resolve("minilm").folder
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = read(folder / "in_domain_train.tsv", SETTINGS)
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    arguments = TrainingArguments(
        output_dir=str(work / f"recipe-{seed}"),
        num_train_epochs=PASSES,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        warmup_steps=0.1,
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    trainer = Trainer(
        model, arguments, train_dataset=_dataset(rows, tokenizer), data_collator=DataCollatorWithPadding(tokenizer)
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    answer: dict[str, Any] = {"seed": seed, "train_seconds": seconds, "passes": PASSES, "precision": "bfloat16"}
    for name, file in DEVS.items():
        dev = read(folder / file, SETTINGS)
        # Grouping by length also orders the rows of `predict`: the truth comes from its own output, in that order.
        output = trainer.predict(_dataset(dev, tokenizer))
        truth, picked = (np.eye(2, dtype=int)[np.asarray(a)] for a in (output.label_ids, output.predictions.argmax(1)))
        answer[name] = _headline(intervals(truth, picked, single=True))
    del trainer, model
    torch.set_default_dtype(torch.float32)
    return answer


def _dataset(rows: Examples, tokenizer: Any) -> list[dict[str, Any]]:
    encoded = tokenizer([str(text) for text in rows.texts], truncation=True)
    labels = rows.targets(("0", "1")).argmax(axis=1).tolist()
    return [
        {"input_ids": ids, "attention_mask": mask, "label": label, "length": len(ids)}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
    ]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and t interval over the seeds of each metric, and the mean time of a pass."""
    answer: dict[str, Any] = {"seconds_a_pass": statistics.mean(run["train_seconds"] / run["passes"] for run in runs)}
    answer["train_seconds"] = statistics.mean(run["train_seconds"] for run in runs)
    for name in DEVS:
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


def main() -> None:
    """Run both contestants in turn, seed by seed, so that a busy moment of the machine hits both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cola_public_1.1.zip")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    record: dict[str, Any] = {"benchmark": "cola", "machine": describe(), "gflops": matrix_rates()}
    runs: dict[str, list[dict[str, Any]]] = {"bertie": [], "transformers Trainer": []}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with zipfile.ZipFile(given.data) as archive:
            archive.extractall(work)
        folder = work / "cola_public" / "raw"
        for seed in range(given.seeds):
            for contestant, train in (("bertie", bertie), ("transformers Trainer", recipe)):
                runs[contestant].append(train(folder, work, seed))
                print(contestant, json.dumps(runs[contestant][-1]), file=sys.stderr, flush=True)
    record |= {"runs": runs, "summary": {name: summary(found) for name, found in runs.items()}}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
