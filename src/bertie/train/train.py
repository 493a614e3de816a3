"""Fine-tuning as a whole: tokens, loop, validation after each pass, the best model, an early end, checkpoints.

Reads examples and a base. Writes `log.jsonl`, `checkpoints/` (to go on from) and `checkpoint/` (the result) into the
run; with several processes, the first of them alone does.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from bertie import disk
from bertie.errors import TrainingError
from bertie.talk import Bar, Talk
from bertie.token_cache import TokenCache, encoded
from bertie.train import checkpoint, device
from bertie.train.batches import Batches
from bertie.train.checkpoints import Checkpoint
from bertie.train.cluster import Cluster
from bertie.train.forward import forward_of
from bertie.train.job import Job
from bertie.train.keeper import Keeper, Standing
from bertie.train.log import Log, open_log
from bertie.train.loop import Step, fit
from bertie.train.loss import objective
from bertie.train.model import build
from bertie.train.schedule import default_passes, ramp
from bertie.train.stop import Stop, asked_to_end, stop_on_signals
from bertie.train.validation import Validation
from bertie.train.weights import Weights

LOG_UPDATES = 20
"""Most updates between two lines of the log."""

SHORT_SECONDS = 30.0
"""Validation over as many tokens as are trained on in that time begins with a checkpoint; it takes about a third.

A machine that is taken away is gone 30 to 120 seconds after SIGTERM.
"""


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
    batch_tokens: int  # computed at once at the end: fewer than the setting if memory ran out
    curve: list[dict[str, float]] = field(default_factory=list)


def train(job: Job, talk: Talk, cluster: Cluster | None = None, *, resume: bool = False, kills: int = 0) -> Fitted:
    """Fine-tune, and keep the weights with the best validation metric.

    The same job gives the same weights again on the same machine, whether it was interrupted and resumed or not.
    `kills` says how often memory ran out so far: each halves the tokens computed at once. Raises Interrupted after
    Ctrl-C, with the best model so far in `checkpoint/`; Preempted after SIGTERM; TrainingError for a loss that is no
    number; OutputError where the result cannot be written.
    """
    with torch.random.fork_rng(), stop_on_signals(talk) as stop:
        torch.manual_seed(job.seed)
        trainer = _Trainer(job, talk, cluster or Cluster.alone(), kills)
        if resume:
            trainer.resume()
        with stop.waiting():
            trainer.go(stop)
            fitted = trainer.finish()
    if stop.by is not None:
        raise asked_to_end(stop.by, f"after the last update; the trained model is in {fitted.checkpoint}", job.run)
    return fitted


class _Trainer:
    """Holds what changes while training goes on."""

    def __init__(self, job: Job, talk: Talk, cluster: Cluster, kills: int) -> None:
        self.job, self.talk, self.cluster = job, talk, cluster
        settings = job.settings
        talk.say(f"tokenizing {len(job.train) + len(job.valid)} texts")
        cache = TokenCache.usual(talk) if settings.token_cache else None
        self.tokens = encoded(job.encoder, job.train.texts, cache)
        self.validation = Validation(job, cluster, cache)
        self.machine = device.choose(settings, cluster)
        model = build(job.base, job.labels, job.train.kind).to(self.machine.device)
        if settings.freeze_embeddings:
            model.freeze_embeddings()
        self.weights = Weights(model, self.machine.dtype, weight_decay=settings.weight_decay, dropout=settings.dropout)
        self.forward = forward_of(self.weights.computing, self.machine, job.encoder.pad_id)
        self.batches = Batches(self.tokens, job.batch_size, settings.batch_tokens, job.seed, cluster.rank, cluster.size)
        for _ in range(cluster.newest(kills)[1]):
            self.batches.halve_budget()
        if cluster.rank:
            torch.manual_seed(job.seed + cluster.rank)  # each process drops other elements
        in_pass = self.batches.in_pass
        self.passes = settings.max_passes or default_passes(in_pass)
        # Reading the loss makes a GPU wait, so it is read now and then; of a short pass, ten times.
        self.log_updates = max(1, min(LOG_UPDATES, in_pass // 10))
        self.keeper = Keeper(job, talk, cluster, self.machine.device)
        self.standing = Standing(precision=device.name_of(self.machine.dtype))
        self.best_weights: torch.Tensor | None = None
        self.started = time.monotonic()
        self.skipped = 0.0
        self.validation_seconds = 0.0

    def go(self, stop: Stop) -> None:
        total = self.passes * self.batches.in_pass
        here = self.standing
        log_of = open_log(self.job.run / "log.jsonl", here.update, len(here.curve), writes=self.cluster.leads)
        with self.talk.progress("training", total) as bar, log_of as log:
            bar.advance(here.update)
            if here.update > len(here.curve) * self.batches.in_pass and here.update % self.batches.in_pass == 0:
                self._end_pass(log, stop)  # the checkpoint was written before it
            tokens, since = 0, time.perf_counter()
            for step in () if self._waited_enough() else self._steps(total):
                here.update, tokens = step.update, tokens + step.tokens
                bar.advance()
                ended = here.update % self.batches.in_pass == 0
                if here.update % self.log_updates == 0 or ended:
                    self._look(step, tokens / (time.perf_counter() - since), bar, log)
                    tokens, since = 0, time.perf_counter()
                if ended:
                    self._before_validation(stop)
                    self._end_pass(log, stop)
                    since = time.perf_counter()
                self._keep_safe(stop)
                if ended and self._waited_enough():
                    self.talk.say(f"no better {self.job.settings.metric} in {self.job.settings.patience} passes: done")
                    break
            bar.finish()
        here.seconds += time.monotonic() - self.started

    def _waited_enough(self) -> bool:
        patience = self.job.settings.patience
        return bool(patience) and len(self.standing.curve) - self.standing.gained >= patience

    def _steps(self, total: int) -> Iterator[Step]:
        settings = self.job.settings
        rate = settings.learning_rate or self.job.base.learning_rate
        return fit(
            self.weights,
            lambda: self.forward,
            self.tokens,
            self.batches,
            self._order(total),
            loss=objective(self.job, self.machine.device),
            schedule=lambda update: rate * ramp(update, total, settings.warmup_share, settings.schedule),
            add_up=self.cluster.sum_up,
        )

    def _order(self, total: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield the batches still to come. Which texts they hold depends on the seed and their number alone."""
        in_pass = self.batches.in_pass
        for number in range(self.standing.update // in_pass, total // in_pass):
            for place, texts in enumerate(self.batches.epoch(number)):
                if number * in_pass + place >= self.standing.update:
                    yield number * in_pass + place, texts

    def _look(self, step: Step, rate: float, bar: Bar, log: Log) -> None:
        """Read the loss, and what it says about the number format."""
        total = step.loss.detach().clone()
        self.cluster.sum_up(total)
        loss, skipped = float(total), float(self.weights.skipped)
        broken = not math.isfinite(loss) or skipped - self.skipped >= self.log_updates
        self.skipped = skipped
        if broken:
            self._fall_back(f"the loss became {loss} at update {step.update}")
        line = {"update": step.update, "loss": loss, "learning_rate": step.learning_rate, "tokens_per_s": rate}
        log.write(line)
        self.talk.measured(line)
        if rate:  # the last batch of a pass may have fewer texts than there are processes
            self.validation_seconds = len(self.validation.mine.ids) / rate
        metric = self.job.settings.metric
        best = f"  best {metric} {self.standing.best[metric]:.3f}" if self.standing.best else ""
        bar.advance(0, note=f"pass {len(self.standing.curve) + 1} of at most {self.passes}  loss {loss:.3f}{best}")

    def _fall_back(self, why: str) -> None:
        """Go on in fp32, from weights that no broken gradient has touched. Raises TrainingError if it is fp32."""
        if self.weights.dtype is torch.float32:
            raise TrainingError(f"{why}.", hint="try a lower --learning-rate")
        self.talk.warn(f"{why} in {device.name_of(self.weights.dtype)}; going on in fp32")
        self._compute_in(torch.float32)

    def _compute_in(self, dtype: torch.dtype) -> None:
        self.weights.compute_in(dtype)
        self.machine = device.Machine(self.machine.device, dtype)
        self.forward = forward_of(self.weights.computing, self.machine, self.job.encoder.pad_id)
        self.standing.precision = device.name_of(dtype)

    def _end_pass(self, log: Log, stop: Stop) -> None:
        here, metric = self.standing, self.job.settings.metric
        scores = self._validate(stop) | {"pass": len(here.curve) + 1, "updates": here.update}
        log.write(scores)
        self.talk.measured(scores)
        here.curve.append(scores)
        best = here.best
        better = not best or (scores[metric], -scores["log_loss"]) > (best[metric], -best["log_loss"])
        listed = ", ".join(f"{name} {scores[name]:.3f}" for name in ("log_loss", "accuracy", "macro_f1", "mcc"))
        self.talk.say(f"pass {scores['pass']}: validation {listed}{' (best)' if better else ''}")
        if not best or scores[metric] > best[metric]:
            here.gained = len(here.curve)
        if better:
            here.best = scores
            self.best_weights = self.weights.flat.detach().clone()

    def _validate(self, stop: Stop) -> dict[str, float]:
        """Return headline metrics and log loss on all validation rows; if somebody asks to stop, save and stop."""
        logits = self._valid_logits(stop)
        if not np.isfinite(logits).all():
            self._fall_back("the scores of validation texts became no numbers")
            logits = self._valid_logits(stop)
        if not np.isfinite(logits).all():
            raise TrainingError("the model's scores are no numbers any more.", hint="try a lower --learning-rate")
        return self.validation.metrics(logits)

    def _valid_logits(self, stop: Stop) -> NDArray[np.float32]:
        self.weights.computing.eval()
        logits = self.validation.logits(self.forward, self.batches, lambda: stop.by is not None)
        if logits is None:
            self._save(must=True)
            self._leave(stop)
        return logits

    def _before_validation(self, stop: Stop) -> None:
        """Write a checkpoint if validation may take longer than there is time after SIGTERM."""
        long = self.cluster.leads and self.validation_seconds > SHORT_SECONDS
        self._save_or_leave(stop, due=self.cluster.agree(long), looks=True)

    def _keep_safe(self, stop: Stop) -> None:
        """Write a checkpoint if one is due; if somebody asked to stop, write one and stop."""
        update = self.standing.update
        # To agree makes a GPU wait.
        looks = self.cluster.size == 1 or self.machine.device.type != "cuda" or not update % self.log_updates
        self._save_or_leave(stop, due=self.keeper.due(update) or (looks and self.keeper.late()), looks=looks)

    def _save_or_leave(self, stop: Stop, *, due: bool, looks: bool) -> None:
        stopping = looks and self.cluster.agree(stop.by is not None)
        if due or stopping:
            self._save(must=stopping)
        if stopping:
            self._leave(stop)

    def _leave(self, stop: Stop) -> NoReturn:
        updates = f"after {self.standing.update} updates"
        if stop.by is signal.SIGINT:
            self._write_model()
            updates += f"; the best model so far is in {self.job.run / checkpoint.FOLDER}"
        raise asked_to_end(stop.by, updates, self.job.run)

    def _save(self, *, must: bool) -> None:
        here = self.standing
        here.batch_tokens = self.batches.batch_tokens
        seconds = here.seconds + time.monotonic() - self.started
        self.keeper.keep(replace(here, seconds=seconds), self.weights, self.best_weights, must=must)

    def resume(self) -> None:
        """Go on from the newest checkpoint; from the beginning if there is none."""
        found = self.keeper.find()
        if found is None:
            self.talk.say("there is no checkpoint yet: starting at the beginning")
            return
        self.standing = Standing(**found.facts["standing"])
        self._compute_in(self._format_of(found))
        self.weights.load_state(found.tensors)
        self.best_weights = found.tensors.get("best")
        self.batches.batch_tokens = min(self.batches.batch_tokens, self.standing.batch_tokens)
        self.keeper.restore_random(found)
        self.talk.say(f"going on after update {found.update}")

    def _format_of(self, found: Checkpoint) -> torch.dtype:
        """Return the number format to go on in: that of before, unless this machine is hopeless at it."""
        name = str(found.facts["standing"]["precision"])
        before = device.DTYPES[name]
        free = self.job.settings.precision == "auto"
        if self.cluster.agree(free and not device.suits(before, self.machine.device)):
            self.talk.warn(f"this training began in {name}, which this machine is slow in; going on in fp32")
            return torch.float32
        return before

    def finish(self) -> Fitted:
        """Write the best weights as the result, and how it went; then the checkpoints have done their duty."""
        here, run = self.standing, self.job.run
        self._write_model()
        fitted = Fitted(
            checkpoint=run / checkpoint.FOLDER,
            best=here.best,
            passes=len(here.curve),
            updates=here.update,
            seconds=here.seconds,
            precision=here.precision,
            device=self.machine.device.type,
            truncated=int(self.tokens.truncated.sum()) + self.validation.truncated(),
            batch_tokens=self.batches.batch_tokens,
            curve=here.curve,
        )
        if self.cluster.leads:
            facts = asdict(fitted) | {"checkpoint": checkpoint.FOLDER, "metric": self.job.settings.metric}
            disk.write_text(run / "training.json", json.dumps(facts, indent=2) + "\n")
        self.keeper.clear()
        return fitted

    def _write_model(self) -> None:
        if self.best_weights is not None:
            with torch.no_grad():
                self.weights.flat.copy_(self.best_weights)
        if self.cluster.leads:
            place = self.job.run / checkpoint.FOLDER
            checkpoint.save(self.weights.model, self.job.base, self.job.encoder.limits.max_tokens, place)
