"""The thread that runs the model: takes batches, isolates the text that breaks one, tells the time.

Knows neither HTTP nor who waits. Python cannot end a thread from outside: one that hangs is given
up by ``abandon``, and another is started in its place.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from app.queue import QueueEntry, TokenQueue
from model.prediction import EncodedText, Prediction

Predict = Callable[[Sequence[EncodedText]], list[Prediction]]
Outcome = Prediction | Exception


class NotFinite(ArithmeticError):
    """The model gave NaN or infinity as a probability."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that has been through the model.

    Attributes:
        entries: its texts.
        outcomes: a prediction or an error for each of them.
        started: ``time.monotonic()`` when the model began.
        seconds: that it took.
    """

    entries: list[QueueEntry]
    outcomes: list[Outcome]
    started: float
    seconds: float

    @property
    def num_tokens(self) -> int:
        """Tokens of all its texts."""
        return sum(entry.num_tokens for entry in self.entries)


class ModelThread:
    """Runs ``predict`` on what ``queue`` gives until the queue is closed.

    Args:
        queue: where batches come from.
        predict: the model.
        deliver: is called in the thread with the report of each batch.
    """

    def __init__(
        self, queue: TokenQueue, predict: Predict, deliver: Callable[[BatchReport], None]
    ) -> None:
        self._queue = queue
        self._predict = predict
        self._deliver = deliver
        self._abandoned = False
        self.batch: list[QueueEntry] = []
        """What the model computes now."""
        self.batch_started = 0.0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    @property
    def busy_seconds(self) -> float:
        """How long the batch of this moment has been in the model; 0 where there is none."""
        return monotonic() - self.batch_started if self.batch else 0.0

    def abandon(self) -> list[QueueEntry]:
        """Gives the thread up; what it computes is returned here and will not be delivered."""
        self._abandoned = True
        batch, self.batch = self.batch, []
        return batch

    async def join(self, timeout_seconds: float) -> None:
        """Waits for the end of the thread, but not longer than this."""
        # The waiting thread holds on to what it was given a moment longer than the wait. It gets
        # the bare thread, which holds nothing then, and not what leads to the batcher.
        await asyncio.to_thread(self._thread.join, timeout_seconds)

    def _run(self) -> None:
        while not self._abandoned and (batch := self._queue.take()):
            self.batch_started = monotonic()
            self.batch = batch
            outcomes = predict_each(self._predict, [entry.text for entry in batch])
            seconds = monotonic() - self.batch_started
            if not self._abandoned:
                self.batch = []
                self._deliver(BatchReport(batch, outcomes, self.batch_started, seconds))


def predict_each(predict: Predict, texts: Sequence[EncodedText]) -> list[Outcome]:
    """A prediction for each text, or the error of the text that cannot be computed.

    A batch that fails is halved until the failure is alone, so that one text never costs its
    neighbours their answer.
    """
    try:
        predictions = predict(texts)
        for prediction in predictions:
            if not math.isfinite(prediction.spam_probability):
                raise NotFinite("the model gave a probability that is not a number")
        return list(predictions)
    except Exception as error:
        if len(texts) == 1:
            return [error.with_traceback(None)]
    # No longer in the handler: the error's traceback keeps the tensors of the whole batch, and
    # where memory was what lacked, it must be free for the halves.
    middle = len(texts) // 2
    return predict_each(predict, texts[:middle]) + predict_each(predict, texts[middle:])
