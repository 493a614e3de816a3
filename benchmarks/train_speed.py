"""Training speed by shape of model and length of texts, beside the transformers Trainer: on a GPU if there is one.

    python -m benchmarks.train_speed [--seconds 30]

Texts a second of `bertie train`'s loop and of the Trainer at its best (grouped by length; bf16 or fp16 where that is
faster), for encoders of the shapes of MiniLM and BERT-base with random weights, at the lengths of CoLA and at 256
tokens. Speed does not depend on what weights and tokens are, so nothing is downloaded. Each contestant has a process
of its own. The record goes to `benchmarks/results/train_speed.json`, or train_speed_gpu.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe, matrix_rates
from benchmarks.tables import training as tables

RESULTS = Path(__file__).parent / "results"
VOCABULARY, TEXTS, BATCH, BATCH_TOKENS = 30522, 4096, 32, 16384
WARM_UPDATES = 2
SHAPES = {
    "MiniLM": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "BERT-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
LENGTHS = {"CoLA": (11.7, 4.0), "256": (256.0, 0.0)}
"""Mean and spread of the tokens of a text."""


@dataclass(frozen=True)
class Case:
    """What is trained on what."""

    shape: str
    length: str
    seconds: float

    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each text."""
        mean, spread = LENGTHS[self.length]
        drawn = np.random.default_rng(0).normal(mean, spread, TEXTS)
        return np.clip(np.rint(drawn), 4, 512).astype(np.int64)

    def model(self) -> Any:
        """Return a classifier of two labels with random weights."""
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(0)
        return BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, num_labels=2, **SHAPES[self.shape]))


def bertie(case: Case) -> dict[str, Any]:
    """Run the loop of `bertie train`, with its defaults."""

    from bertie.config import TrainSettings
    from bertie.tokens import Tokens
    from bertie.train import device
    from bertie.train.batches import Batches
    from bertie.train.cluster import Cluster
    from bertie.train.forward import forward_of
    from bertie.train.loop import fit
    from bertie.train.loss import Loss
    from bertie.train.model import SequenceClassifier
    from bertie.train.weights import Weights

    lengths, random = case.lengths(), np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(5, VOCABULARY, int(starts[-1]), dtype=np.int32)
    texts = np.arange(TEXTS)
    tokens = Tokens(ids, np.zeros(len(ids), np.int8), starts, texts, np.zeros(TEXTS, np.bool_))
    here = device.choose(TrainSettings(), Cluster.alone())
    model = SequenceClassifier(case.model()).to(here.device)
    model.freeze_embeddings()
    weights = Weights(model, here.dtype, weight_decay=0.01)
    forward = forward_of(weights.computing, here, 0)
    batches = Batches(tokens, BATCH, BATCH_TOKENS, 0)
    targets = np.eye(2, dtype=np.int64)[texts % 2]
    loss = Loss(targets, "single-label", np.ones(2, np.float32), here.device)
    order = enumerate(some for turn in itertools.count() for some in batches.epoch(turn))
    steps = fit(
        weights,
        lambda: forward,
        tokens,
        batches,
        order,
        loss=loss,
        schedule=lambda _: 1e-5,
        add_up=lambda _: None,
    )
    return _timed(lambda: next(steps), case.seconds) | {
        "precision": device.name_of(here.dtype),
        "device": here.device.type,
    }


def trainer(case: Case) -> dict[str, Any]:
    """Run the transformers Trainer on the same texts, in the number format that `bertie train` takes here."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from bertie.config import TrainSettings
    from bertie.train import device
    from bertie.train.cluster import Cluster

    here = device.choose(TrainSettings(), Cluster.alone())
    random = np.random.default_rng(0)
    rows = [
        {"input_ids": random.integers(5, VOCABULARY, length).tolist(), "label": number % 2, "length": int(length)}
        for number, length in enumerate(case.lengths())
    ]

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(one["length"] for one in some)
        ids, mask = np.zeros((len(some), longest), np.int64), np.zeros((len(some), longest), np.int64)
        for place, one in enumerate(some):
            ids[place, : one["length"]] = one["input_ids"]
            mask[place, : one["length"]] = 1
        arrays = {"input_ids": ids, "attention_mask": mask, "labels": np.array([one["label"] for one in some])}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    clock = _Clock(case.seconds)

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types for it
        def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> None:
            control.should_training_stop = clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=10**6,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-5,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            bf16=here.dtype is torch.bfloat16,
            fp16=here.dtype is torch.float16,
            use_cpu=here.device.type == "cpu",
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        taught = Trainer(case.model(), arguments, train_dataset=rows, data_collator=collate, callbacks=[Watch()])
        taught.train()
    return clock.found() | {"precision": device.name_of(here.dtype), "device": here.device.type}


class _Clock:
    """Counts updates from the end of the first few on, and says when the time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._ticks = seconds, -WARM_UPDATES
        self._begun = self._now = 0.0

    def tick(self) -> bool:
        self._ticks += 1
        if self._ticks < 0:
            return False
        self._now = time.perf_counter() if self._ticks % 8 else _when_done()
        if not self._ticks:
            self._begun = self._now
        over = self._now - self._begun > self._seconds and self._ticks > 0
        if over:
            self._now = _when_done()
        return over

    def found(self) -> dict[str, Any]:
        passed = self._now - self._begun
        return {"updates": self._ticks, "seconds": passed, "texts_per_s": BATCH * self._ticks / passed}


def _when_done() -> float:
    """Return the time at which a GPU has done what it was told; now and then, so that it never waits."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _timed(update: Callable[[], object], seconds: float) -> dict[str, Any]:
    clock = _Clock(seconds)
    while True:
        update()
        if clock.tick():
            return clock.found()


CONTESTANTS = {"bertie": bertie, "Trainer": trainer}


def main() -> None:
    """Run each contestant on each case, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each contestant on each case")
    parser.add_argument("--one", nargs=3, metavar=("CONTESTANT", "SHAPE", "LENGTH"), help="run one, and print it")
    parser.add_argument("--out", type=Path, help="the record")
    given = parser.parse_args()
    if given.one:
        name, shape, length = given.one
        print(json.dumps(CONTESTANTS[name](Case(shape, length, given.seconds))))
        return
    runs = []
    for shape, length, name in itertools.product(SHAPES, LENGTHS, CONTESTANTS):
        command = [sys.executable, "-m", "benchmarks.train_speed", "--seconds", str(given.seconds)]
        done = subprocess.run([*command, "--one", name, shape, length], stdout=subprocess.PIPE, text=True, check=True)
        runs.append({"shape": shape, "length": length, "who": name} | json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    record: dict[str, Any] = {"benchmark": "train_speed", "machine": describe(), "gflops": matrix_rates(), "runs": runs}
    gpu = runs[0]["device"] == "cuda"
    if gpu:
        import torch

        record["machine"]["processor"] += f", {torch.cuda.get_device_name(0)}"
    out = given.out or RESULTS / f"train_speed{'_gpu' if gpu else ''}.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(tables.train_speed(record), file=sys.stderr)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
