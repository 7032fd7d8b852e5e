"""The service without HTTP: loads the checkpoint, then answers texts with predictions.

Every endpoint goes through ``Service.classify``.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from app.batcher import DynamicBatcher
from app.errors import InferenceFailed, NotReady, TooManyTexts
from app.settings import Settings
from model.checkpoint import CheckpointError
from model.classifier import Classifier, DeviceError, Prediction

STARTUP_FAILED = 2
"""Exit code where the checkpoint or the device cannot be used."""


@dataclass(frozen=True)
class Verdicts:
    """Predictions in the order of the texts, and the model that made them."""

    model: str
    predictions: list[Prediction]


class Service:
    """One checkpoint behind one queue.

    Args:
        settings: see there.
        exit_process: is called with an exit code when the service can never work.
    """

    def __init__(self, settings: Settings, exit_process: Callable[[int], None]) -> None:
        self.settings = settings
        self.failure: str | None = None
        self.classifier: Classifier | None = None
        self._batcher: DynamicBatcher | None = None
        self._exit_process = exit_process
        self._started = time.monotonic()

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the process made the service."""
        return round(time.monotonic() - self._started, 3)

    async def load(self) -> None:
        """Loads and proves the checkpoint; ends the process where that fails."""
        try:
            classifier = await asyncio.to_thread(_load, self.settings)
        except (CheckpointError, DeviceError, RuntimeError, OSError, MemoryError) as error:
            self.failure = " ".join(str(error).split()) or type(error).__name__
            print(f"spamgate: {self.failure}", file=sys.stderr, flush=True)  # noqa: T201
            self._exit_process(STARTUP_FAILED)
            return
        self._batcher = DynamicBatcher(
            classifier.predict, max_batch_tokens=classifier.max_batch_tokens
        )
        self.classifier = classifier

    async def close(self) -> None:
        """Answers what waits, then ends the model thread."""
        if self._batcher:
            await self._batcher.close()

    async def classify(self, texts: Sequence[str]) -> Verdicts:
        """Verdicts on any texts.

        Raises:
            ServiceError: one of its kinds; the content of the texts is never a reason.
        """
        if len(texts) > self.settings.max_texts:
            raise TooManyTexts(
                f"{len(texts)} texts came in one request; at most {self.settings.max_texts} are "
                "allowed. Send several requests, or raise SPAMGATE_MAX_TEXTS."
            )
        if self.classifier is None or self._batcher is None:
            raise NotReady("The model is still being loaded. Try again in a few seconds.")
        classifier = self.classifier
        encoded = await asyncio.to_thread(lambda: [classifier.encode(text) for text in texts])
        try:
            predictions = await self._batcher.submit(encoded)
        except Exception as error:
            raise InferenceFailed(f"The model raised {type(error).__name__}.") from error
        return Verdicts(classifier.name, predictions)


def _load(settings: Settings) -> Classifier:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return Classifier.load(settings.checkpoint, settings.device, settings.dtype)
