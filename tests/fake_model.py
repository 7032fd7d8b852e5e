"""A model that tests hold and let go, that fails, hangs or dies on cue. No torch, no sleeps."""

import asyncio
import threading
from collections.abc import Sequence

from model.prediction import EncodedText, Prediction

POISON = 13
"""A text of this token makes the model raise."""
NAN = 14
"""This one makes it answer NaN."""
DEADLY = 15
"""This one ends the thread that runs the model."""


def encoded(first: int, length: int = 1) -> EncodedText:
    return EncodedText([first] * length)


class FakeModel:
    """Answers each text with its first token as P(spam).

    With ``held``, each batch waits until ``release`` is called.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.held = held
        self._started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def __call__(self, texts: Sequence[EncodedText]) -> list[Prediction]:
        firsts = [text.token_ids[0] for text in texts]
        self.batches.append([len(text.token_ids) for text in texts])
        self._started.release()
        if self.held:
            assert self._gate.acquire(timeout=20)
        if DEADLY in firsts:
            raise SystemExit
        if POISON in firsts:
            raise RuntimeError("out of memory")
        return [
            Prediction(
                0.0,
                float("nan") if first == NAN else float(first),
                len(text.token_ids),
            )
            for first, text in zip(firsts, texts, strict=True)
        ]

    def release(self, batches: int = 1) -> None:
        """Lets this many batches through."""
        self._gate.release(batches)

    def release_all(self) -> None:
        """Holds nothing any more."""
        self.held = False
        self._gate.release(100)

    async def until_started(self) -> None:
        """Returns when the next batch has reached the model."""
        assert await asyncio.to_thread(self._started.acquire, timeout=20)
