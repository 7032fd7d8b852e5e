"""The service without HTTP: loads checkpoints, admits requests, answers texts with predictions.

All of it runs in the event loop; loading and tokenizing run in threads, the model in its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from app.batcher import READING_TOOK_ALL, DynamicBatcher, Limits
from app.decision import Cutoffs
from app.errors import DeadlineExpired, NotReady, QueueFull, ReloadFailed, TooManyTexts
from app.loading import load_model, settle_objects
from app.logs import print_reason, reason_of
from app.metrics import Metrics
from app.queue import bound_of, counted
from app.reading import Reading
from app.settings import Settings
from app.workers import STARTUP_FAILED
from model.classifier import Classifier
from model.explain import Influence, cut_spans, influences, without
from model.fold import fold_text
from model.mail import MailText, message_to_text
from model.prediction import Prediction, judge_readings
from model.windows import encode_windows, join_windows

MODEL_FAILED = 3
"""Exit code where the model thread cannot be kept alive, or the model fails on everything."""

_log = logging.getLogger("spamgate")

# Tokenizing this much takes less than handing it to a thread and back, while another computes.
_INLINE_CHARACTERS = 2_000
_CHARACTERS_A_TEXT = 50  # as each text costs beside its own
# For what is in the model when the process ends: the time to drain has been spent.
_CLOSE_SECONDS = 5.0
# What a model reads in little more time than one token, of 124M parameters: see ``Limits``.
_FULL_TOKENS = {"cpu": 64, "cuda": 2048}
# How much of a text is explained.
_EXPLAINED_CHARACTERS = 4_000


@dataclass(frozen=True)
class Verdicts:
    """Predictions in the order of the texts, and the model that made them.

    Attributes:
        model: its name.
        predictions: one a text.
        cutoffs: by which that model decides.
        windows: how many of each text went through the model.
    """

    model: str
    predictions: list[Prediction]
    cutoffs: Cutoffs
    windows: list[int]


async def _read_in(threads: ThreadPoolExecutor | None, reading: Reading) -> None:
    is_read = False
    while not is_read:
        try:
            turn = asyncio.get_running_loop().run_in_executor(threads, reading.take_turn)
        except RuntimeError as error:  # those threads take nothing any more
            raise NotReady("The service is ending: ask another one.") from error
        is_read = await turn


@dataclass(eq=False)
class Engine:
    """A loaded checkpoint with the queue in front of it. A swap replaces the whole of it, so that
    a request meets one model from its first token to its last.

    Attributes:
        classifier: the checkpoint.
        batcher: the queue and the model thread.
        cutoffs: by which it decides.
        pending_texts: of requests that are being read, wait, or are computed.
    """

    classifier: Classifier
    batcher: DynamicBatcher
    cutoffs: Cutoffs
    pending_texts: int = 0


class Service:
    """One checkpoint at a time, behind one queue.

    Args:
        settings: see there.
        exit_process: is called with an exit code when the service can never work.
    """

    def __init__(self, settings: Settings, exit_process: Callable[[int], None]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.engine: Engine | None = None
        self.failure: str | None = None
        self.draining = False
        self._previous: Classifier | None = None
        self._formats: dict[str, str] = {}
        self._exit_process = exit_process
        self._started = time.monotonic()
        self._pending_texts = 0
        self._pending_in_lists = 0  # those of ``_pending_texts``
        self.switching = asyncio.Lock()  # held while a checkpoint is loaded
        # Else a few long lists would keep all threads from the messages that come one by one.
        self._list_reader = ThreadPoolExecutor(1, "lists")

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the process made the service."""
        return round(time.monotonic() - self._started, 3)

    @property
    def problem(self) -> str | None:
        """Why texts should not be sent here now; None where they should."""
        if self.failure:
            return self.failure
        if self.engine is None:
            return "the model is being loaded"
        if self.draining:
            return "the service is ending"
        is_full = self._pending_before(1) >= self.settings.max_pending_texts
        # What lists leave to single texts has to take one that the model reads at once.
        if is_full or not self.engine.batcher.queue.has_room(self.engine.classifier.max_tokens):
            return "the queue is full"
        return self.engine.batcher.problem

    async def load(self) -> None:
        """Loads and proves the checkpoint; ends the process where that fails."""
        async with self.switching:  # a reload asked for meanwhile comes after it
            try:
                classifier = await asyncio.to_thread(
                    load_model, self.settings, self.settings.checkpoint, self._formats
                )
                self._switch(classifier)
                settle_objects()
            except Exception as error:  # whatever it is, there will be no model
                self._fail(reason_of(error), STARTUP_FAILED)

    async def reload(self, checkpoint: str | None = None) -> str:
        """Loads a checkpoint beside the one in use and switches to it; requests go on meanwhile.

        Args:
            checkpoint: folder or hub id; None reads the folder of the settings anew.

        Returns:
            The name of the model now in use.

        Raises:
            ReloadFailed: it cannot be used, and the current model stays.
        """
        checkpoint = checkpoint or self.settings.checkpoint
        async with self.switching:
            try:
                classifier = await asyncio.to_thread(
                    load_model, self.settings, checkpoint, self._formats
                )
            except Exception as error:
                reason = reason_of(error)
            else:
                await self._replace(classifier)
                return classifier.name
            _log.error("reload failed", extra={"reason": reason})
            settle_objects()  # only now: the error's traceback has held what was loaded
            raise ReloadFailed(f"{reason} The current model stays in use.")

    async def roll_back(self) -> str:
        """Goes back to the model before the last switch; a second call goes forth again.

        Returns:
            The name of the model now in use.

        Raises:
            ReloadFailed: there was no model before.
        """
        async with self.switching:
            if self._previous is None:
                raise ReloadFailed("There is no model to go back to: none has been replaced yet.")
            classifier = self._previous
            await self._replace(classifier)
            return classifier.name

    async def drain(self) -> None:
        """Refuses new texts, and returns when every accepted one is answered or time is over."""
        self.draining = True
        await self._wait_while(lambda: self._pending_texts > 0)

    async def close(self) -> None:
        """Answers what waits, then ends the model thread."""
        self.draining = True
        self._list_reader.shutdown(wait=False, cancel_futures=True)
        if self.engine:
            await self.engine.batcher.close(_CLOSE_SECONDS)

    async def classify(
        self, texts: Sequence[str], timeout_seconds: float | None = None
    ) -> Verdicts:
        """Verdicts on any texts: disguised letters made plain, long ones read in windows.

        Args:
            texts: at least one.
            timeout_seconds: how long the caller waits; None takes the setting.

        Raises:
            ServiceError: one of its kinds; the content of the texts is never a reason.
        """
        is_short = sum(len(text) + _CHARACTERS_A_TEXT for text in texts) <= _INLINE_CHARACTERS
        verdicts = await self._predict(len(texts), texts, is_short, timeout_seconds)
        self.metrics.count_verdicts(verdicts.predictions)
        return verdicts

    async def classify_messages(
        self, raws: Sequence[bytes], timeout_seconds: float | None = None, *, is_cut: bool = False
    ) -> tuple[list[MailText], Verdicts]:
        """What is read of raw messages, and the verdicts on that: of its readings the worst.

        Args and errors are those of ``classify``; decoding counts as the caller's time. ``is_cut``:
        more stood there than came.
        """
        mails: list[MailText] = []
        readings: list[str] = []

        def decode() -> Iterator[str]:
            for raw in raws:
                mail = message_to_text(raw)
                mails.append(replace(mail, truncated=True) if is_cut else mail)
                readings.extend(mail.readings)
                yield from mail.readings

        verdicts = await self._predict(len(raws), decode(), False, timeout_seconds)
        judged = judge_readings(verdicts.predictions, [len(mail.readings) for mail in mails])
        mails = [
            replace(mail, text=readings[n]) for mail, (n, _) in zip(mails, judged, strict=True)
        ]
        verdicts = replace(
            verdicts,
            predictions=[
                replace(prediction, truncated=prediction.truncated or mail.truncated)
                for mail, (_, prediction) in zip(mails, judged, strict=True)
            ],
            windows=[verdicts.windows[n] for n, _ in judged],
        )
        self.metrics.count_verdicts(verdicts.predictions)
        return mails, verdicts

    async def explain(self, text: str, timeout_seconds: float) -> tuple[str, list[Influence]]:
        """A text as the model reads it, and what the words of its beginning do to the verdict on
        that. Not counted as verdicts."""
        folded, spans = "", []
        size, most = self._ready_engine().classifier.max_tokens, self.settings.max_windows

        def vary() -> Iterator[str]:
            nonlocal folded, spans
            folded = fold_text(text)
            beginning = folded[:_EXPLAINED_CHARACTERS]
            windows = encode_windows(beginning, size, most).windows
            spans = cut_spans(beginning, sum(len(window.token_ids) for window in windows))
            yield beginning
            yield from without(beginning, spans)

        verdicts = await self._predict(1, vary(), False, timeout_seconds)
        whole, *left_out = verdicts.predictions
        return folded, influences(spans, whole, left_out)

    async def _predict(
        self,
        num_texts: int,
        texts: Iterable[str],
        is_short: bool,
        timeout_seconds: float | None,
    ) -> Verdicts:
        """``texts`` may be a generator; unless ``is_short``, it runs in a thread."""
        self._check(num_texts)
        timeout_seconds = timeout_seconds or self.settings.timeout_seconds
        begin = time.monotonic()
        engine = self._ready_engine()
        size, most = engine.classifier.max_tokens, self.settings.max_windows
        reading = Reading(texts, size, most, begin + timeout_seconds)
        in_list = num_texts if num_texts > 1 else 0
        self._pending_texts += num_texts
        self._pending_in_lists += in_list
        engine.pending_texts += num_texts
        try:
            if is_short:
                while not reading.take_turn():
                    pass
            else:
                threads = self._list_reader if num_texts > 1 else None  # the loop's own
                async with asyncio.timeout(timeout_seconds):
                    await _read_in(threads, reading)
            encoded, batcher = reading.texts, engine.batcher
            self.metrics.count_tokenizing(elapsed := time.monotonic() - begin)
            left = timeout_seconds - elapsed
            of_windows = await batcher.submit(reading.windows, reading.keys, left, num_texts)
        except TimeoutError:  # the thread ends by itself; one that has not begun never will
            raise DeadlineExpired(READING_TOOK_ALL) from None
        finally:
            reading.stop()
            self._pending_texts -= num_texts
            self._pending_in_lists -= in_list
            engine.pending_texts -= num_texts
        predictions = join_windows(encoded, of_windows)
        counts = [len(text.windows) for text in encoded]
        return Verdicts(engine.classifier.name, predictions, engine.cutoffs, counts)

    def render_metrics(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        self.publish_state()
        return self.metrics.render()

    def publish_state(self) -> None:
        """Sets the gauges to what holds now."""
        queue = self.engine.batcher.queue if self.engine else None
        self.metrics.set_state(
            ready=self.problem is None,
            waiting_texts=queue.texts if queue else 0,
            waiting_tokens=queue.tokens if queue else 0,
        )

    def _check(self, num_texts: int) -> None:
        if num_texts > self.settings.max_texts:
            raise TooManyTexts(
                f"{num_texts} texts came in one request; at most {self.settings.max_texts} are "
                "allowed. Send several requests, or raise SPAMGATE_MAX_TEXTS."
            )
        pending = self._pending_before(num_texts)
        most = bound_of(self.settings.max_pending_texts, num_texts)
        if self._pending_texts and pending + num_texts > most:
            wait = self.engine.batcher.expected_wait() if self.engine else 0.0
            raise QueueFull(
                f"{pending} texts wait for their verdict and {num_texts} came; at most "
                f"{most} may wait. Try again later, or elsewhere.",
                retry_after_seconds=max(wait, 1.0),  # of those being read it knows nothing
            )

    def _pending_before(self, num_texts: int) -> int:
        most = self.settings.max_pending_texts
        return counted(self._pending_texts, self._pending_in_lists, most, num_texts)

    def _ready_engine(self) -> Engine:
        if self.draining or self.failure or self.engine is None:
            raise NotReady(f"Not now: {self.problem}. Ask another instance.", retry_after_seconds=1)
        return self.engine

    async def _replace(self, classifier: Classifier) -> None:
        old = self.engine
        self._switch(classifier)
        if old:
            self._previous = old.classifier if self.settings.admin_key else None  # to roll back
            # What it has accepted, it still answers; some of that is being read.
            await self._wait_while(lambda: old.pending_texts > 0)
            await old.batcher.close(self.settings.drain_seconds)
            del old
        settle_objects()

    async def _wait_while(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + self.settings.drain_seconds
        while is_so() and time.monotonic() < end:
            await asyncio.sleep(0.02)

    def _switch(self, classifier: Classifier) -> None:
        settings = self.settings
        limits = Limits(
            max_batch_tokens=classifier.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            cache_bytes=settings.cache_bytes,
            stall_seconds=settings.stall_seconds,
            full_tokens=_FULL_TOKENS[classifier.device.type],
        )

        def on_failure(reason: str) -> None:
            if self.engine is engine:  # what was replaced may fail
                self._fail(reason, MODEL_FAILED)

        batcher = DynamicBatcher(
            classifier.predict,
            limits,
            metrics=self.metrics,
            on_failure=on_failure,
            lasting=torch.AcceleratorError,  # a CUDA context that has failed fails for ever
        )
        self.engine = engine = Engine(classifier, batcher, Cutoffs.of(classifier))
        device, dtype = str(classifier.device), classifier.dtype_name
        self.metrics.set_model(classifier.name, device, dtype)
        told = {"model": classifier.name, "device": device, "dtype": dtype}
        _log.info("model in use", extra=told)

    def _fail(self, reason: str, exit_code: int) -> None:
        self.failure = reason
        print_reason(reason)
        self._exit_process(exit_code)
