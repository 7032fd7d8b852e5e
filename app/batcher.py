"""Batches across requests: admission, coalescing, deadlines, and a model thread that is watched.

Knows neither HTTP nor the model, which is a callable from texts to predictions. Everything here
runs in the event loop but for the queue and the model thread, which call back into it.
"""

import asyncio
import contextlib
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import monotonic

from app.cache import PredictionCache
from app.errors import DeadlineExpired, InferenceFailed, NotReady, QueueFull, WouldExpire
from app.metrics import Metrics
from app.model_thread import BatchReport, ModelThread, Outcome, Predict
from app.queue import QueueEntry, State, TokenQueue, give_turns
from model.prediction import EncodedText, Prediction

READING_TOOK_ALL = (
    "Reading it took all of its time. Allow more in X-Timeout-Ms, or send less at once."
)

_WATCH_SECONDS = 0.2
_CANARY_SECONDS = 5.0
# Another process may do better.
_HOPELESS_SECONDS = 60.0
# Model threads started in a row without one batch that succeeds.
_MAX_RESTARTS = 3
_MOST_TIMES_EXPECTED = 10.0
# Rounds of the watch in a row that find a batch late. Not by the clock alone, which goes on while
# the process is stopped: in the first round after that what was computed is delivered.
_LATE_ROUNDS = 5
_CANARY = EncodedText([50256])
_CANARY_KEY = b""  # no text has it: each has at least one token


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a batcher admits and how long it trusts its model thread.

    Attributes:
        max_batch_tokens: tokens in one forward pass; a longer text goes alone.
        max_queue_tokens: tokens that may wait for the model.
        cache_bytes: memory for predictions of texts seen before; 0 is none.
        stall_seconds: a batch that takes this long and ten times what is expected has hung.
        full_tokens: what a smaller batch counts as in the measured cost of a token, since it takes
            nearly as long; else, after a few short texts, long ones would be refused as too slow.
    """

    max_batch_tokens: int
    max_queue_tokens: int
    cache_bytes: int
    stall_seconds: float
    full_tokens: int


@dataclass(eq=False, slots=True)
class _Job:
    """The texts of one request: complete when ``missing`` is 0."""

    results: list[Prediction | None]
    future: asyncio.Future[None]
    missing: int = 0
    entries: list[QueueEntry] = field(default_factory=list)

    def settle(self, indices: list[int], outcome: Outcome) -> None:
        """Fills in one text's outcome, wherever the request holds that text."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
            return
        for index in indices:
            self.results[index] = outcome
        self.missing -= len(indices)
        if self.missing == 0:
            self.future.set_result(None)


def keys_of(texts: Sequence[EncodedText]) -> list[bytes]:
    """A key for each text, equal for those that must have the same prediction.

    Runs in any thread. Of many long texts it takes long, so not in the event loop.
    """
    keys = []
    whole, digest = None, b""
    for text in texts:
        if text.whole is not whole:  # one list, that all windows of a text share
            whole = text.whole
            digest = blake2b(array("H", whole).tobytes()).digest() if whole else b""
        # GPT-2's ids fit into 16 bits. Of a window, all that is read of its text has a say.
        keys.append(array("H", text.token_ids).tobytes() + digest)
    return keys


def _first_line(error: object) -> str:
    return str(error).partition("\n")[0]


class DrainRate:
    """Seconds the model takes for a token, over the last batches, larger ones counting for more.

    Args:
        full_tokens: as in ``Limits``.
    """

    def __init__(self, full_tokens: int) -> None:
        self._full_tokens = full_tokens
        self._seconds = 0.0
        self._tokens = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Counts one batch; what was before counts for less.

        One that took much longer than expected counts as so many times that: the machine may have
        stood still meanwhile, after which long texts would be refused as too slow for minutes.
        """
        tokens = max(tokens, self._full_tokens)
        if expected := self.seconds_for(tokens):
            seconds = min(seconds, _MOST_TIMES_EXPECTED * expected)
        self._seconds = 0.9 * self._seconds + seconds
        self._tokens = 0.9 * self._tokens + tokens

    def seconds_for(self, tokens: int) -> float:
        """How long the model is expected to take; 0 before the first batch."""
        return tokens * self._seconds / self._tokens if self._tokens else 0.0


class DynamicBatcher:
    """Brings texts to the model as soon as it is free: there is no wait timer.

    Made inside a running event loop. A text that is in the cache, or under way for another caller,
    is not computed again.

    Args:
        predict: the model, called in one thread only.
        limits: see there.
        metrics: where to count.
        on_failure: is called once when the model thread cannot be kept alive, or when the model has
            failed on everything for a minute.
        lasting: the kind of error after which this process will never compute again: on_failure is
            then called at once.
    """

    def __init__(
        self,
        predict: Predict,
        limits: Limits,
        *,
        metrics: Metrics | None = None,
        on_failure: Callable[[str], None] = lambda reason: None,
        lasting: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        self.limits = limits
        self.queue = TokenQueue(
            max_tokens=limits.max_queue_tokens, max_batch_tokens=limits.max_batch_tokens
        )
        self._predict = predict
        self._metrics = metrics or Metrics()
        self._on_failure = on_failure
        self._lasting = lasting
        self._loop = asyncio.get_running_loop()
        self._cache = PredictionCache(limits.cache_bytes)
        self._in_flight: dict[bytes, QueueEntry] = {}
        self._rate = DrainRate(limits.full_tokens)
        self._last_success = monotonic()
        self._failing = False
        self._restarts_in_a_row = 0
        self._thread = self._start_thread()
        self._watch = self._loop.create_task(self._watch_thread())

    async def submit(
        self,
        texts: Sequence[EncodedText],
        keys: Sequence[bytes],
        timeout_seconds: float,
        num_texts: int,
    ) -> list[Prediction]:
        """Predictions in the order of the texts, which may be computed in several batches.

        Args:
            texts: any number: windows, readings and variants of what was asked about, too.
            keys: as ``keys_of`` gives them.
            timeout_seconds: how long the caller waits.
            num_texts: that the caller asked about; several are a list, which gives way.

        Raises:
            QueueFull: too much waits already.
            WouldExpire: what waits would take longer than the timeout.
            DeadlineExpired: it did take longer. Nothing is computed for this call any more.
            InferenceFailed: the model failed on one of these texts, whatever else was in the batch.
            NotReady: it was closed before these texts came.
        """
        if timeout_seconds <= 0:
            raise DeadlineExpired(READING_TOOK_ALL)
        deadline = monotonic() + timeout_seconds
        job = _Job([None] * len(texts), self._loop.create_future())
        self._admit(job, texts, keys, deadline, num_texts)
        try:
            if job.missing:
                async with asyncio.timeout(timeout_seconds):
                    await job.future
        except TimeoutError:
            raise DeadlineExpired(
                f"The verdict was not there within {1000 * timeout_seconds:.0f} ms. Allow more "
                "time in X-Timeout-Ms, or send less at once."
            ) from None
        finally:
            self._leave(job)
        return [result for result in job.results if result is not None]

    @property
    def problem(self) -> str | None:
        """Why no verdict can be expected now; None where all is well."""
        if not self._thread.is_alive:
            return "the model thread has died"
        if self._is_late(0.5, 3):
            return "the model thread does not come back from a batch"
        patience = 4 * _CANARY_SECONDS + self.expected_wait()
        if self._failing or monotonic() - self._last_success > patience:
            return "the model fails"
        return None

    def expected_wait(self, tokens: int = 0, last: QueueEntry | None = None) -> float:
        """Seconds until the model has read its batch, what waits (all of it, or what is taken
        before ``last``) and this many tokens more."""
        running = sum(entry.num_tokens for entry in self._thread.batch)
        waiting = self.queue.tokens if last is None else self.queue.tokens_before(last)
        return self._rate.seconds_for(running + waiting + tokens)

    async def close(self, timeout_seconds: float) -> None:
        """Ends the model thread once everything that waits is answered, or the time is over."""
        self._watch.cancel()
        self.queue.close()
        await self._thread.join(timeout_seconds)

    def _admit(
        self,
        job: _Job,
        texts: Sequence[EncodedText],
        keys: Sequence[bytes],
        deadline: float,
        num_texts: int,
    ) -> None:
        new: dict[bytes, QueueEntry] = {}
        wanted: list[tuple[int, QueueEntry]] = []
        for index, (text, key) in enumerate(zip(texts, keys, strict=True)):
            if (prediction := self._cache.get(key)) is not None:
                job.results[index] = prediction
                continue
            entry = new.get(key) or self._in_flight.get(key)
            if entry is None or not self.queue.prolong(entry, deadline, is_single=num_texts == 1):
                entry = new[key] = QueueEntry(text, key, deadline)
            wanted.append((index, entry))
        self._enqueue(list(new.values()), deadline, num_texts)
        self._in_flight |= new
        self._metrics.count_shared(len(texts) - len(wanted), len(wanted) - len(new))
        job.missing = len(wanted)
        for index, entry in wanted:
            entry.waiters.setdefault(job, []).append(index)
            job.entries.append(entry)

    def _enqueue(self, entries: list[QueueEntry], deadline: float, num_texts: int) -> None:
        if not entries:
            return
        tokens, left = give_turns(entries), deadline - monotonic()
        wait = self.expected_wait(tokens)
        if wait > left:
            # Of what waits, not all comes before these.
            wait = self.expected_wait(tokens, last=max(entries))
        if wait > left:
            # These alone may take longer than that: then nothing is gained by waiting.
            is_too_much = self._rate.seconds_for(tokens) > left
            advice = "Allow" if is_too_much else "Try again later, or elsewhere; allow"
            raise WouldExpire(
                f"The verdict would take about {math.ceil(1000 * wait)} ms, longer than the caller "
                f"waits. {advice} more in X-Timeout-Ms, or send less at once.",
                retry_after_seconds=None if is_too_much else wait,
            )
        try:
            self.queue.put(entries, num_texts)
        except QueueFull as error:
            error.retry_after_seconds = self._rate.seconds_for(error.excess_tokens)
            raise

    def _leave(self, job: _Job) -> None:
        """Takes back what was queued for this job alone: its caller has an answer or has gone."""
        for entry in job.entries:
            entry.waiters.pop(job, None)
            if not entry.waiters:
                self.queue.discard(entry)
                if entry.state is State.DISCARDED and self._in_flight.get(entry.key) is entry:
                    del self._in_flight[entry.key]

    def _start_thread(self) -> ModelThread:
        def deliver(report: BatchReport) -> None:
            self._loop.call_soon_threadsafe(self._deliver, report)

        return ModelThread(self.queue, self._predict, deliver)

    def _deliver(self, report: BatchReport) -> None:
        succeeded = 0
        for entry, outcome in zip(report.entries, report.outcomes, strict=True):
            if isinstance(outcome, Prediction):
                succeeded += 1
                self._cache.put(entry.key, outcome)
            self._settle(entry, outcome)
        if succeeded:
            self._failing = False
            self._restarts_in_a_row = 0
            self._last_success = monotonic()
            self._rate.add(report.num_tokens, report.seconds)
        elif report.entries[0].key == _CANARY_KEY:
            self._failing = True
            if isinstance(report.outcomes[0], self._lasting) and not self._watch.cancelling():
                # Refusing takes no time, so of several workers it would get most of what comes.
                self._give_up(f"the model cannot go on ({_first_line(report.outcomes[0])})")
        else:
            # Is it these texts, or the model?
            self._send_canary()
        self._metrics.count_batch(report)

    def _settle(self, entry: QueueEntry, outcome: Outcome) -> None:
        if self._in_flight.get(entry.key) is entry:
            del self._in_flight[entry.key]
        if isinstance(outcome, Exception) and not isinstance(outcome, InferenceFailed):
            failure = InferenceFailed(f"The model failed on a text ({type(outcome).__name__}).")
            failure.__cause__ = outcome
            outcome = failure
        for job, indices in entry.waiters.items():
            job.settle(indices, outcome)
        entry.waiters.clear()

    async def _watch_thread(self) -> None:
        late_rounds = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            is_late = self._is_late(self.limits.stall_seconds, _MOST_TIMES_EXPECTED)
            late_rounds = late_rounds + 1 if is_late else 0
            if not self._thread.is_alive:
                self._replace_thread("died")
            elif late_rounds == _LATE_ROUNDS:
                late_rounds = 0
                self._replace_thread("did not come back")
            elif self._failing and monotonic() - self._last_success > _HOPELESS_SECONDS:
                self._give_up("the model fails on everything")
            elif not self._thread.batch and monotonic() - self._last_success > _CANARY_SECONDS:
                self._send_canary()

    def _send_canary(self) -> None:
        """Has the model compute one token that nobody waits for, to know that it still can."""
        # A full queue proves as much, and of a closed one nobody asks.
        with contextlib.suppress(QueueFull, NotReady):
            self.queue.put([QueueEntry(_CANARY, _CANARY_KEY, deadline=math.inf)])

    def _replace_thread(self, what_happened: str) -> None:
        for entry in self._thread.abandon():
            self._settle(entry, InferenceFailed(f"The model {what_happened} on this batch."))
        self._failing = True
        if self._restarts_in_a_row == _MAX_RESTARTS:
            self._give_up(f"the model thread {what_happened}, as did those that replaced it")
            return
        self._metrics.count_restart()
        self._restarts_in_a_row += 1
        self._thread = self._start_thread()
        self._send_canary()

    def _give_up(self, reason: str) -> None:
        self._watch.cancel()
        self._on_failure(reason)

    def _is_late(self, seconds: float, factor: float) -> bool:
        expected = self._rate.seconds_for(sum(entry.num_tokens for entry in self._thread.batch))
        if not expected:  # of the first batch nothing is known
            seconds = max(seconds, _HOPELESS_SECONDS)
        return self._thread.busy_seconds > seconds + factor * expected
