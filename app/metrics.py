"""Every Prometheus metric, declared once; all series are there, at zero, from the start.

No label and no value ever holds text of a message. Where texts wait, are cached or go through the
model, each window of a long one counts.
"""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from app.errors import INTERNAL_ERROR, INVALID_HTTP, INVALID_REQUEST, PROBLEMS
from app.model_thread import BatchReport
from app.workers import METRICS_FOLDER
from model.gpt2 import LABELS
from model.prediction import Prediction

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (8, 32, 128, 512, 1024, 2048, 4096, 8192, 16384)
_TENTHS = tuple(n / 10 for n in range(1, 10))

OUTCOMES = (
    *("ok", "error", INVALID_HTTP),
    *(problem.code for problem in (*PROBLEMS.values(), INVALID_REQUEST, INTERNAL_ERROR)),
)
"""What becomes of a request: ``ok``, the code of its problem, or ``error`` for any other status."""


class Metrics:
    """The metrics of one service, in a registry of their own.

    Several workers share files in ``PROMETHEUS_MULTIPROC_DIR``, and each renders the sum of all.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a fifth of all series
        self._registry = CollectorRegistry()
        self._requests = self._counter(
            "requests", "Requests, probes, scrapes and pages not counted", "outcome"
        )
        self._texts = self._counter("texts", "Texts with a verdict", "label")
        self._truncated = self._counter("truncated_texts", "Texts of which something was not read")
        self._tokens = self._counter("tokens", "Tokens that went through the model")
        self._cache_hits = self._counter(
            "cache_hits", "Texts, or windows of them, answered from the cache"
        )
        self._coalesced = self._counter(
            "coalesced_texts", "Texts, or windows of them, that joined an equal one"
        )
        self._failed_texts = self._counter("failed_texts", "Texts the model failed on")
        self._restarts = self._counter("model_thread_restarts", "Model threads replaced")
        self._request_seconds = self._histogram("request_seconds", "Whole request", _SECONDS)
        self._tokenize_seconds = self._histogram("tokenize_seconds", "Texts to tokens", _SECONDS)
        self._queue_seconds = self._histogram("queue_seconds", "Wait of a text", _SECONDS)
        self._forward_seconds = self._histogram("forward_seconds", "One batch", _SECONDS)
        self._batch_tokens = self._histogram("batch_tokens", "Tokens of one batch", _TOKENS)
        self._batch_texts = self._histogram("batch_texts", "Texts of one batch", _COUNTS)
        self._spam_probability = self._histogram("spam_probability", "P(spam) of a text", _TENTHS)
        self._waiting_texts = self._gauge("queue_texts", "Texts that wait for the model")
        self._waiting_tokens = self._gauge("queue_tokens", "Tokens that wait for the model")
        self._ready = self._gauge("ready", "Workers that can classify texts now")
        self._model = self._gauge("model_info", "Workers with it", "model", "device", "dtype")
        self._model_labels: tuple[str, str, str] | None = None
        self._by_outcome = {outcome: self._requests.labels(outcome) for outcome in OUTCOMES}
        self._by_label = {label: self._texts.labels(label) for label in LABELS}

    def count_request(self, outcome: str, seconds: float) -> None:
        """One request that has come to its end, whatever that was."""
        self._by_outcome.get(outcome, self._by_outcome["error"]).inc()
        self._request_seconds.observe(seconds)

    def count_refused(self) -> None:
        """One request that was no HTTP, or too long before its body."""
        self._by_outcome[INVALID_HTTP].inc()

    def count_tokenizing(self, seconds: float) -> None:
        """The texts of one request turned into tokens."""
        self._tokenize_seconds.observe(seconds)

    def count_verdicts(self, predictions: list[Prediction]) -> None:
        """Verdicts that go back to a caller."""
        for prediction in predictions:
            self._by_label[prediction.label].inc()
            self._spam_probability.observe(prediction.spam_probability)
            if prediction.truncated:
                self._truncated.inc()

    def count_shared(self, cache_hits: int, coalesced: int) -> None:
        """Texts of one request that needed no computing of their own."""
        self._cache_hits.inc(cache_hits)
        self._coalesced.inc(coalesced)

    def count_batch(self, report: BatchReport) -> None:
        """One forward pass and the waiting before it; of canaries, their tokens alone."""
        self._tokens.inc(report.num_tokens)
        texts = [e for e in zip(report.entries, report.outcomes, strict=True) if e[0].key]
        if not texts:
            return
        self._forward_seconds.observe(report.seconds)
        self._batch_tokens.observe(report.num_tokens)
        self._batch_texts.observe(len(texts))
        for entry, outcome in texts:
            self._queue_seconds.observe(max(0.0, report.started - entry.arrival))
            self._failed_texts.inc(isinstance(outcome, Exception))

    def count_restart(self) -> None:
        """One model thread that died or hung and was replaced."""
        self._restarts.inc()

    def set_model(self, model: str, device: str, dtype: str) -> None:
        """The model in use from now on."""
        if self._model_labels and _of_several_workers():
            self._model.labels(*self._model_labels).set(0)  # cannot be taken out of their files
        elif self._model_labels:
            self._model.remove(*self._model_labels)
        self._model_labels = model, device, dtype
        self._model.labels(*self._model_labels).set(1)

    def set_state(self, *, ready: bool, waiting_texts: int, waiting_tokens: int) -> None:
        """What the gauges show from now on."""
        self._ready.set(ready)
        self._waiting_texts.set(waiting_texts)
        self._waiting_tokens.set(waiting_tokens)

    def render(self) -> bytes:
        """Everything in the text format of Prometheus."""
        if not _of_several_workers():
            return generate_latest(self._registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"spamgate_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(
            f"spamgate_{name}", text, labels, registry=self._registry, multiprocess_mode="livesum"
        )

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"spamgate_{name}", text, buckets=buckets, registry=self._registry)


def _of_several_workers() -> bool:
    return METRICS_FOLDER in os.environ
