"""What Prometheus reads at /metrics: counts and times, never a text."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bertie.serve.batching import Batch
from bertie.serve.scheduler import PHASES, Answer, Scheduler

MODEL = ("model", "bundle")
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._count("requests", "Requests by path and status.", "path", "status")
        self._loads = self._count("model_loads", "Models loaded or replaced, by outcome.", "model", "outcome")
        self.seconds = self._spread(
            "phase_seconds",
            "Time of a request by phase; queue is the wait before its first model call.",
            SECONDS,
            "phase",
        )
        self.windows = self._spread("batch_windows", "Windows of a model call.", SIZES)
        self.tokens = self._spread("batch_tokens", "Tokens of a model call, without padding.", TOKENS)
        self.padding = self._count("padding_tokens", "Tokens that shorter windows were filled up with.", *MODEL)
        self.labels = self._count("labels", "Answers by label.", *MODEL, "label")
        self.scores = self._spread("scores", "Probability of the label given.", CONFIDENCE)
        self.outcomes = self._count("model_requests", "Requests to a model by outcome.", *MODEL, "outcome")
        self.queue = Gauge("bertie_queue_tokens", "Tokens that wait for the model.", MODEL, registry=self._registry)

    @property
    def _by_model(self) -> tuple[Counter | Gauge | Histogram, ...]:
        spreads = (self.seconds, self.windows, self.tokens, self.scores)
        return (*spreads, self.padding, self.labels, self.outcomes, self.queue)

    def _count(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"bertie_{name}", about, labels, registry=self._registry)

    def _spread(self, name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"bertie_{name}", about, (*MODEL, *labels), buckets=buckets, registry=self._registry)

    def request(self, path: str, status: int, times: int = 1) -> None:
        """Count requests."""
        self._requests.labels(path, str(status)).inc(times)

    def load(self, model: str, outcome: str) -> None:
        """Count a model that was loaded, or was not."""
        self._loads.labels(model, outcome).inc()

    def forget(self, model: str) -> None:
        """Drop the numbers of a model that is gone: names of clients' choice must not gather for ever."""
        for one in (*self._by_model, self._loads):
            one.remove_by_labels({"model": model})

    def of(self, model: str, bundle: str) -> ModelMetrics:
        """Return the numbers of one bundle that answers for a model."""
        return ModelMetrics(self, model, bundle)

    def page(self) -> bytes:
        """Return the page that Prometheus reads."""
        return generate_latest(self._registry)


class ModelMetrics:
    """The numbers of one bundle that answers for a model: two that share its requests can be compared."""

    def __init__(self, of: Metrics, model: str, bundle: str) -> None:
        who = (model, bundle)
        self._phases = {phase: of.seconds.labels(*who, phase) for phase in PHASES}
        self._windows, self._tokens = of.windows.labels(*who), of.tokens.labels(*who)
        self._padding, self._scores = of.padding.labels(*who), of.scores.labels(*who)
        self._queue = of.queue.labels(*who)
        self._outcome = functools.cache(lambda outcome: of.outcomes.labels(*who, outcome))
        self._label = functools.cache(lambda label: of.labels.labels(*who, label))

    def watch_queue(self, scheduler: Scheduler) -> None:
        """Read from now on how many tokens wait."""
        watched = weakref.ref(scheduler)
        self._queue.set_function(lambda: one.tokens if (one := watched()) else 0)

    def outcome(self, outcome: str) -> None:
        """Count how a request ended: `answered`, or the name of an error."""
        self._outcome(outcome).inc()

    def answer(self, answer: Answer) -> None:
        """Count what a request was answered, and how long that took."""
        for phase, seconds in answer.phases.items():
            self._phases[phase].observe(seconds)
        for one in answer.predictions:
            for label in one.labels if one.labels is not None else (one.label,):
                self._label(label).inc()
            self._scores.observe(one.score)

    def batch(self, batch: Batch) -> None:
        """Count a model call."""
        lengths = batch.lengths
        tokens = int(lengths.sum())
        self._windows.observe(len(lengths))
        self._tokens.observe(tokens)
        self._padding.inc(len(lengths) * int(lengths.max()) - tokens)
