"""What Prometheus reads at /metrics: counts and times, never a text."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bertie.scores import Prediction

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bertie_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "bertie_phase_seconds",
            "Time of a request by phase; queue is the wait before its first model call.",
            ("phase",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._windows = Histogram(
            "bertie_batch_windows", "Windows of a model call.", buckets=SIZES, registry=self._registry
        )
        self._tokens = Histogram(
            "bertie_batch_tokens", "Tokens of a model call, without padding.", buckets=TOKENS, registry=self._registry
        )
        self._padding = Counter(
            "bertie_padding_tokens", "Tokens that shorter windows were filled up with.", registry=self._registry
        )
        self._queue = Gauge("bertie_queue_tokens", "Tokens that wait for the model.", registry=self._registry)
        self._labels = Counter("bertie_labels", "Answers by label.", ("label",), registry=self._registry)
        self._scores = Histogram(
            "bertie_scores", "Probability of the label given.", buckets=CONFIDENCE, registry=self._registry
        )

    def watch_queue(self, tokens: Callable[[], int]) -> None:
        """Read from now on how many tokens wait."""
        self._queue.set_function(tokens)

    def request(self, path: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()

    def answer(self, predictions: list[Prediction], phases: dict[str, float]) -> None:
        """Count what a request was answered, and how long that took."""
        for phase, seconds in phases.items():
            self._seconds.labels(phase).observe(seconds)
        for one in predictions:
            for label in one.labels if one.labels is not None else (one.label,):
                self._labels.labels(label).inc()
            self._scores.observe(one.score)

    def batch(self, windows: int, tokens: int, padded: int) -> None:
        """Count a model call."""
        self._windows.observe(windows)
        self._tokens.observe(tokens)
        self._padding.inc(padded - tokens)

    def page(self) -> bytes:
        """Return the page that Prometheus reads."""
        return generate_latest(self._registry)
