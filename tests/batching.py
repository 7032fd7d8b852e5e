"""A batcher in front of a model that tests hold, and what they ask of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.batcher import DynamicBatcher, Limits, keys_of
from model.prediction import EncodedText, Prediction
from tests.fake_model import FakeModel, encoded

PATIENT = 20.0


def limits_with(**limits: float) -> Limits:
    usual = {
        "max_batch_tokens": 16384,
        "max_queue_tokens": 131072,
        "cache_bytes": 0,
        "stall_seconds": 10.0,
        "full_tokens": 64,
    }
    return Limits(**usual | limits)  # type: ignore[arg-type]


@asynccontextmanager
async def batching(model: FakeModel, **limits: float):
    """A batcher in front of a model; at the end everything that waits is let through."""
    failures: list[str] = []
    batcher = DynamicBatcher(model, limits_with(**limits), on_failure=failures.append)
    batcher.failures = failures  # type: ignore[attr-defined]
    yield batcher
    model.release_all()
    await batcher.close(10)


# The thread ends by SystemExit on purpose; pytest would make a warning of it.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def submit(
    batcher: DynamicBatcher,
    *texts: EncodedText,
    timeout: float = PATIENT,
    num_texts: int | None = None,
) -> asyncio.Task[list[Prediction]]:
    num_texts = len(texts) if num_texts is None else num_texts
    return asyncio.create_task(batcher.submit(texts, keys_of(texts), timeout, num_texts))


def answers(predictions: list[Prediction]) -> list[float]:
    return [prediction.spam_probability for prediction in predictions]


async def until(condition: Callable[[], object]) -> None:
    """Waits for something that the watch or the model thread brings about."""
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


async def occupied(batcher: DynamicBatcher, model: FakeModel) -> asyncio.Task[list[Prediction]]:
    """The model held by a first text, so that what comes now waits."""
    first = submit(batcher, encoded(0))
    await model.until_started()
    return first


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]
