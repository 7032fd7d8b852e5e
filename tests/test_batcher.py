"""Batches across requests, without a model: a fake that tests hold and let go."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.batcher import DynamicBatcher
from model.classifier import EncodedText, Prediction


class HeldModel:
    """Answers each text with its first token; each batch waits until ``release`` is called."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def __call__(self, texts: Sequence[EncodedText]) -> list[Prediction]:
        self.batches.append([len(text.token_ids) for text in texts])
        self.started.release()
        assert self._gate.acquire(timeout=10)
        return [Prediction(0.0, text.token_ids[0], len(text.token_ids), False) for text in texts]

    def release(self, batches: int = 1) -> None:
        self._gate.release(batches)

    async def wait_started(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=10)


def encoded(first: int, length: int = 1) -> EncodedText:
    return EncodedText([first] * length, truncated=False)


def test_what_waits_while_the_model_runs_becomes_one_batch() -> None:
    async def scenario() -> list[list[Prediction]]:
        batcher = DynamicBatcher(model, max_batch_tokens=100)
        calls = [asyncio.create_task(batcher.submit([encoded(0)]))]
        await model.wait_started()
        calls += [asyncio.create_task(batcher.submit([encoded(n), encoded(9)])) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        model.release(2)
        results = await asyncio.gather(*calls)
        await batcher.close()
        return results

    model = HeldModel()
    results = asyncio.run(scenario())
    assert model.batches == [[1], [1] * 6]
    assert [[p.spam_probability for p in result] for result in results] == [
        [0],
        [1, 9],
        [2, 9],
        [3, 9],
    ]


def test_a_batch_never_exceeds_the_token_budget_but_for_a_single_text() -> None:
    async def scenario() -> None:
        batcher = DynamicBatcher(model, max_batch_tokens=10)
        model.release(100)
        await batcher.submit([encoded(1, n) for n in (4, 6, 1, 50, 3, 7, 7, 3)])
        await batcher.close()

    model = HeldModel()
    asyncio.run(scenario())
    assert model.batches == [[4, 6], [1], [50], [3, 7], [7, 3]]


def test_an_error_of_the_model_reaches_the_caller_and_the_next_batch_runs() -> None:
    async def scenario() -> list[Prediction]:
        def model(texts: Sequence[EncodedText]) -> list[Prediction]:
            if texts[0].token_ids == [13]:
                raise RuntimeError("out of memory")
            return [Prediction(1.0, 0.0, 1, False) for _ in texts]

        batcher = DynamicBatcher(model, max_batch_tokens=10)
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher.submit([encoded(13)])
        result = await batcher.submit([encoded(1)])
        await batcher.close()
        return result

    assert len(asyncio.run(scenario())) == 1


def test_close_answers_everything_that_waits() -> None:
    async def scenario() -> list[Prediction]:
        batcher = DynamicBatcher(model, max_batch_tokens=1)
        call = asyncio.create_task(batcher.submit([encoded(n) for n in range(5)]))
        await model.wait_started()
        closing = asyncio.create_task(batcher.close())
        model.release(5)
        await closing
        return await call

    model = HeldModel()
    assert [p.spam_probability for p in asyncio.run(scenario())] == [0, 1, 2, 3, 4]
