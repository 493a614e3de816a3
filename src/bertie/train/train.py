"""Fine-tuning as a whole: tokens, loop, validation after each pass, the best checkpoint, an early end.

Reads examples and a base. Writes `log.jsonl` and `checkpoint/` into the run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertie.config import TrainSettings
from bertie.data.examples import Examples
from bertie.errors import Interrupted, TrainingError
from bertie.evaluate.headline import headline
from bertie.evaluate.metrics import log_loss
from bertie.scores import Decision, chosen, probabilities
from bertie.talk import Bar, Talk
from bertie.token_cache import TokenCache, encoded
from bertie.tokens import TextEncoder, Tokens
from bertie.train import checkpoint, machine
from bertie.train.base_models import Base
from bertie.train.batches import Batches
from bertie.train.loop import Machine, Step, fit, logits_of
from bertie.train.loss import Loss, label_weights
from bertie.train.model import PooledClassifier, build

LOG_UPDATES = 20
"""Most updates between two lines of the log."""

FEWEST_UPDATES = 300
"""Small sets are passed over more often: fine-tuning needs some hundred updates to settle (Mosbach et al. 2021)."""


@dataclass
class Fitted:
    """How training went."""

    checkpoint: Path
    best: dict[str, float]
    passes: int
    updates: int
    seconds: float
    precision: str
    device: str
    truncated: int
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """Everything that training needs, read and checked."""

    run: Path
    base: Base
    encoder: TextEncoder
    train: Examples
    valid: Examples
    labels: tuple[str, ...]
    settings: TrainSettings
    seed: int

    @property
    def decision(self) -> Decision:
        """How logits are read while training goes on: no temperature yet, and one half as threshold."""
        return Decision(self.labels, self.train.kind)


def train(job: Job, talk: Talk) -> Fitted:
    """Fine-tune, and keep the checkpoint with the best validation metric.

    The same job gives the same weights again on the same machine. Ctrl-C raises Interrupted after the best model so
    far (or the model as it is) has been written to `checkpoint/`. Raises TrainingError for a loss that is no number.
    """
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        trainer = _Trainer(job, talk)
        try:
            trainer.go()
        except KeyboardInterrupt:
            updates = trainer.update
            if not trainer.saved:
                trainer.save()
            folder = checkpoint.finish(job.run)
            raise Interrupted(
                f"stopped after {updates} updates; the model as it was is in {folder}.",
                hint=f"bertie export {job.run} makes a bundle of it",
            ) from None
    return trainer.result()


class _Trainer:
    """Holds what changes while training goes on."""

    def __init__(self, job: Job, talk: Talk) -> None:
        self.job, self.talk = job, talk
        self.machine: Machine = machine.choose(job.settings)
        talk.say(f"tokenizing {len(job.train) + len(job.valid)} texts")
        cache = TokenCache.usual(talk) if job.settings.token_cache else None
        self.tokens = encoded(job.encoder, job.train.texts, cache)
        self.valid_tokens = encoded(job.encoder, job.valid.texts, cache)
        self.model = build(job.base, job.labels, job.train.kind).to(self.machine.device)
        if job.settings.freeze_embeddings:
            self.model.freeze_embeddings()
        self.batches = Batches(self.tokens, job.settings.batch_size, job.settings.batch_tokens, job.seed)
        self.passes = job.settings.max_passes or min(20, max(3, math.ceil(FEWEST_UPDATES / self.batches.in_pass)))
        # Reading the loss makes a GPU wait, so it is read now and then; of a short pass, ten times.
        self.log_updates = max(1, min(LOG_UPDATES, self.batches.in_pass // 10))
        self.valid_targets = job.valid.targets(job.labels)
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.update, self.saved, self.seconds = 0, False, 0.0
        self.gained = 0  # the pass in which the metric last got better

    def go(self) -> None:
        started = time.perf_counter()
        steps = self._steps()
        in_pass = self.batches.in_pass
        bar_of = self.talk.progress("training", self.passes * in_pass)
        with (self.job.run / "log.jsonl").open("a", encoding="utf-8") as log, bar_of as bar:
            for number in range(self.passes):
                self._one_pass(steps, bar, log)
                scores = self.validate() | {"pass": number + 1, "updates": self.update}
                _write(log, scores)
                self.curve.append(scores)
                self._keep_best(scores)
                if number + 1 - self.gained >= self.job.settings.patience:
                    self.talk.say(f"no better {self.job.settings.metric} in {self.job.settings.patience} passes: done")
                    break
            bar.finish()
        self.seconds = time.perf_counter() - started
        checkpoint.finish(self.job.run)

    def _steps(self) -> Iterator[Step]:
        settings, targets = self.job.settings, self.job.train.targets(self.job.labels)
        weights = label_weights(targets, self.job.train.kind, settings)
        rate = settings.learning_rate or self.job.base.learning_rate
        total = self.passes * self.batches.in_pass
        return fit(
            self.model,
            self.tokens,
            self.batches,
            (texts for number in range(self.passes) for texts in self.batches.epoch(number)),
            loss=Loss(targets, self.job.train.kind, weights, self.machine.device),
            optimizer=_optimizer(self.model, settings),
            schedule=lambda update: rate * ramp(update, total, settings.warmup_share),
            machine=self.machine,
            pad_id=self.job.encoder.pad_id,
        )

    def _one_pass(self, steps: Iterator[Step], bar: Bar, log: Any) -> None:
        started, tokens = time.perf_counter(), 0
        for _ in range(self.batches.in_pass):
            step = next(steps)
            self.update, tokens = step.update, tokens + step.tokens
            if step.update % self.log_updates and step.update % self.batches.in_pass:
                bar.advance()
                continue
            loss = float(step.loss)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} at update {step.update}.",
                    hint="try --precision fp32, or a lower --learning-rate",
                )
            rate = tokens / (time.perf_counter() - started)
            _write(
                log, {"update": step.update, "loss": loss, "learning_rate": step.learning_rate, "tokens_per_s": rate}
            )
            best = f"  best {self.job.settings.metric} {self.best[self.job.settings.metric]:.3f}" if self.best else ""
            bar.advance(note=f"pass {len(self.curve) + 1} of at most {self.passes}  loss {loss:.3f}{best}")

    def validate(self) -> dict[str, float]:
        """Return headline metrics and log loss on the validation rows."""
        settings, decision = self.job.settings, self.job.decision
        logits = logits_of(self.model, self.valid_tokens, self.machine, self.job.encoder.pad_id, settings.batch_tokens)
        if not np.isfinite(logits).all():
            raise TrainingError("the model's scores are no numbers any more.", hint="try --precision fp32")
        scores = probabilities(logits, decision)
        single = decision.kind == "single-label"
        values = headline(self.valid_targets, chosen(scores, decision), single=single)
        return values | {"log_loss": log_loss(self.valid_targets, scores, single=single)}

    def _keep_best(self, scores: dict[str, float]) -> None:
        metric = self.job.settings.metric
        better = not self.best or (scores[metric], -scores["log_loss"]) > (self.best[metric], -self.best["log_loss"])
        listed = ", ".join(f"{name} {scores[name]:.3f}" for name in ("log_loss", "accuracy", "macro_f1", "mcc"))
        self.talk.say(f"pass {scores['pass']}: validation {listed}{' (best)' if better else ''}")
        if not self.best or scores[metric] > self.best[metric]:
            self.gained = int(scores["pass"])
        if better:
            self.best = scores
            self.save()

    def save(self) -> None:
        checkpoint.save(self.model, self.job.base, self.job.encoder.limits.max_tokens, self.job.run / checkpoint.BEST)
        self.saved = True

    def result(self) -> Fitted:
        return Fitted(
            checkpoint=self.job.run / checkpoint.FOLDER,
            best=self.best,
            passes=len(self.curve),
            updates=self.update,
            seconds=self.seconds,
            precision=str(self.machine.dtype).removeprefix("torch."),
            device=self.machine.device.type,
            truncated=truncated(self.tokens, self.valid_tokens),
            curve=self.curve,
        )


def truncated(*sets: Tokens) -> int:
    """Return how many texts lost something to the limits."""
    return int(sum(tokens.truncated.sum() for tokens in sets))


def ramp(update: int, total: int, warmup_share: float) -> float:
    """Return the share of the peak learning rate: up in a line, then down in a line to almost nothing."""
    warmup = max(1, round(total * warmup_share))
    return (update + 1) / warmup if update < warmup else (total - update) / max(1, total - warmup + 1)


def _optimizer(model: PooledClassifier, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return AdamW; biases and layer norms do not decay, as in Devlin et al. 2019."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def _write(log: Any, line: dict[str, float]) -> None:
    log.write(json.dumps(line) + "\n")
    log.flush()
