"""Batches across requests: texts wait in a queue until the one model thread is free.

Knows neither HTTP nor the model: the model is a callable from texts to predictions.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.classifier import EncodedText, Prediction

Predict = Callable[[Sequence[EncodedText]], list[Prediction]]


@dataclass(frozen=True, eq=False, slots=True)
class QueueEntry:
    """A text that waits, and the future its caller awaits."""

    text: EncodedText
    future: asyncio.Future[Prediction]


class DynamicBatcher:
    """Takes what waits, in order, as soon as the model is free: there is no wait timer.

    Made inside a running event loop. A batch holds as many texts as fit into the token budget, at
    least one.
    """

    def __init__(self, predict: Predict, *, max_batch_tokens: int) -> None:
        self._predict = predict
        self._max_batch_tokens = max_batch_tokens
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[QueueEntry] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    async def submit(self, texts: Sequence[EncodedText]) -> list[Prediction]:
        """Predictions in the order of the texts, which may be computed in several batches.

        Raises:
            Exception: whatever the model raised on the batch.
        """
        entries = [QueueEntry(text, self._loop.create_future()) for text in texts]
        with self._changed:
            self._waiting.extend(entries)
            self._changed.notify()
        return await asyncio.gather(*(entry.future for entry in entries))

    async def close(self) -> None:
        """Ends the model thread after everything that waits has been answered."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while batch := self._take():
            outcome: list[Prediction] | Exception
            try:
                outcome = self._predict([entry.text for entry in batch])
            except Exception as error:
                outcome = error
            self._loop.call_soon_threadsafe(_deliver, batch, outcome)

    def _take(self) -> list[QueueEntry]:
        """The next batch, once there is one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch: list[QueueEntry] = []
            tokens = 0
            while self._waiting:
                tokens += len(self._waiting[0].text.token_ids)
                if batch and tokens > self._max_batch_tokens:
                    break
                batch.append(self._waiting.popleft())
            return batch


def _deliver(batch: list[QueueEntry], outcome: list[Prediction] | Exception) -> None:
    for index, entry in enumerate(batch):
        if entry.future.done():  # its caller has gone
            continue
        if isinstance(outcome, Exception):
            entry.future.set_exception(outcome)
        else:
            entry.future.set_result(outcome[index])
