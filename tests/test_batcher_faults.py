"""Batches across requests: models that fail, hang or end their thread."""

import asyncio
import random
import threading
import weakref
from collections.abc import Sequence
from time import monotonic

import pytest

from app import batcher as batcher_module
from app.batcher import DrainRate, DynamicBatcher
from app.errors import DeadlineExpired, InferenceFailed, QueueFull, WouldExpire
from app.model_thread import BatchReport, ModelThread, predict_each
from app.queue import QueueEntry, TokenQueue
from model.prediction import EncodedText, Prediction
from tests.batching import PATIENT, answers, batching, dies, occupied, run, submit, until
from tests.fake_model import DEADLY, NAN, POISON, FakeModel, encoded


@pytest.mark.parametrize("bad", [POISON, NAN])
def test_only_the_culprit_of_a_batch_fails(bad: int) -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model, cache_bytes=10_000) as batcher:
            await occupied(batcher, model)
            calls = {n: submit(batcher, encoded(n)) for n in (1, 2, 3, bad, 4, 5, 6)}
            await asyncio.sleep(0)
            model.release_all()
            with pytest.raises(InferenceFailed):
                await calls.pop(bad)
            for n, call in calls.items():
                assert answers(await call) == [n]
            assert batcher.problem is None
        assert model.batches[1] == [1] * 7

    run(scenario)


def test_what_failed_is_freed_before_its_parts_are_tried() -> None:
    class Activations:
        """Stands for tensors of a forward pass."""

    seen: list[weakref.ref[Activations]] = []

    def model(texts: Sequence[EncodedText]) -> list[Prediction]:
        assert not any(activations() for activations in seen)
        activations = Activations()
        seen.append(weakref.ref(activations))
        raise MemoryError

    outcomes = predict_each(model, [encoded(n) for n in range(4)])
    assert [type(outcome) for outcome in outcomes] == [MemoryError] * 4


def test_a_failing_model_is_noticed_and_so_is_its_recovery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher_module, "_CANARY", encoded(POISON))
    monkeypatch.setattr(batcher_module, "_CANARY_SECONDS", 1000.0)  # at the failure, not in time

    async def scenario() -> None:
        async with batching(FakeModel()) as batcher:
            with pytest.raises(InferenceFailed):
                await submit(batcher, encoded(POISON))
            await until(lambda: batcher.problem == "the model fails")
            assert answers(await submit(batcher, encoded(1))) == [1]
            assert batcher.problem is None

    run(scenario)


def test_a_model_that_fails_on_everything_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher_module, "_CANARY", encoded(POISON))
    monkeypatch.setattr(batcher_module, "_CANARY_SECONDS", 0.0)
    monkeypatch.setattr(batcher_module, "_HOPELESS_SECONDS", 0.5)

    async def scenario() -> None:
        async with batching(FakeModel()) as batcher:
            await until(lambda: batcher.failures)
            assert batcher.failures == ["the model fails on everything"]
            assert batcher._watch.cancelling()

    run(scenario)


@dies
def test_a_model_thread_that_dies_is_replaced_and_its_callers_are_told() -> None:
    async def scenario() -> None:
        async with batching(FakeModel()) as batcher:
            with pytest.raises(InferenceFailed, match="died"):
                await asyncio.wait_for(submit(batcher, encoded(DEADLY), encoded(1)), 2)
            assert answers(await submit(batcher, encoded(2))) == [2]
            await until(lambda: batcher.problem is None)

    run(scenario)


@dies
def test_a_new_model_thread_has_to_prove_itself() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            call = submit(batcher, encoded(DEADLY))
            await model.until_started()
            model.release()
            with pytest.raises(InferenceFailed, match="died"):
                await call
            await model.until_started()  # with one token that nobody waits for
            assert batcher.problem == "the model fails"
            model.release_all()
            await until(lambda: batcher.problem is None)
            assert b"spamgate_model_thread_restarts_total 1.0" in batcher._metrics.render()

    run(scenario)


def test_a_batch_is_late_by_what_is_expected_of_its_tokens() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            batcher._rate.add(tokens=100, seconds=10.0)
            await occupied(batcher, model)
            batcher._thread.batch_started = monotonic() - 1.5
            assert not batcher._is_late(1.0, 10)  # 0.1 s for its token, ten times, and 1 s
            assert batcher._is_late(0.2, 10)

    run(scenario)


def test_a_first_batch_may_take_long() -> None:
    """As the longest text of a large model on few cores: nothing is known of its pace yet."""

    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            await occupied(batcher, model)
            batcher._thread.batch_started = monotonic() - 30
            assert batcher.problem is None
            assert not batcher._is_late(batcher.limits.stall_seconds, 10)
            batcher._thread.batch_started = monotonic() - 61
            assert batcher._is_late(batcher.limits.stall_seconds, 10)

    run(scenario)


def test_a_model_thread_that_hangs_is_noticed_at_once_and_replaced_in_the_end() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model, stall_seconds=1.0) as batcher:
            batcher._rate.add(tokens=100, seconds=0.01)
            hanging = await occupied(batcher, model)
            waiting = submit(batcher, encoded(7))
            async with asyncio.timeout(1.0):
                await until(lambda: "does not come back" in (batcher.problem or ""))
            model.held = False  # for the thread to come
            with pytest.raises(InferenceFailed, match="did not come back"):
                await hanging
            assert answers(await waiting) == [7]
            await until(lambda: batcher.problem is None)
            model.release_all()  # the old thread wakes: nobody hears it
            assert answers(await submit(batcher, encoded(8))) == [8]

    run(scenario)


def test_a_batch_that_is_late_by_the_clock_alone_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a pause of the process, until what was computed is delivered."""
    rounds = 0

    def is_late(*bounds: float) -> bool:
        nonlocal rounds
        rounds += 1
        return rounds % 5 != 0

    async def scenario() -> None:
        async with batching(FakeModel()) as batcher:
            thread = batcher._thread
            monkeypatch.setattr(batcher, "_is_late", is_late)
            await until(lambda: rounds > 20)
            assert batcher._thread is thread

    monkeypatch.setattr("app.batcher._WATCH_SECONDS", 0.001)
    run(scenario)


def test_a_thread_that_was_given_up_delivers_nothing_and_takes_no_more() -> None:
    started, go_on = threading.Event(), threading.Event()

    def predict(texts: Sequence[EncodedText]) -> list[Prediction]:
        started.set()
        go_on.wait(10)
        return [Prediction(0.5, 0.5, 1, False)] * len(texts)

    delivered: list[BatchReport] = []
    queue = TokenQueue(max_tokens=100, max_batch_tokens=100)
    first, second = (QueueEntry(encoded(n), b"", deadline=monotonic() + 60) for n in (1, 2))
    queue.put([first])
    thread = ModelThread(queue, predict, delivered.append)
    assert started.wait(10)
    assert thread.abandon() == [first]
    assert thread.busy_seconds == 0
    queue.put([second])
    go_on.set()
    asyncio.run(thread.join(10))
    assert not thread.is_alive
    assert (delivered, queue.texts) == ([], 1)


def test_what_is_delivered_is_no_longer_in_the_model() -> None:
    def deliver(report: BatchReport) -> None:
        busy.append(thread.busy_seconds)
        queue.close()

    busy: list[float] = []
    queue = TokenQueue(max_tokens=100, max_batch_tokens=100)
    thread = ModelThread(queue, FakeModel(), deliver)
    queue.put([QueueEntry(encoded(1), b"", deadline=monotonic() + 60)])
    asyncio.run(thread.join(10))
    assert busy == [0]


@dies
def test_a_thread_that_cannot_be_kept_alive_is_reported_once() -> None:
    async def scenario() -> None:
        async with batching(FakeModel()) as batcher:
            for _ in range(3):
                with pytest.raises(InferenceFailed, match="died"):
                    await submit(batcher, encoded(DEADLY))
            with pytest.raises(DeadlineExpired):
                await submit(batcher, encoded(1), timeout=0.1)
            assert batcher.problem == "the model thread has died"
            assert len(batcher.failures) == 1

    # The canary after each restart must not succeed, or the count begins anew.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batcher_module.DynamicBatcher, "_send_canary", lambda self: None)
        patch.setattr(batcher_module, "_WATCH_SECONDS", 0.01)  # often in the time of the last call
        patch.setattr(batcher_module, "_MAX_RESTARTS", 2)
        run(scenario)


@dies
def test_only_threads_that_end_in_a_row_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_MAX_RESTARTS", 1)

    async def scenario() -> None:
        async with batching(FakeModel()) as batcher:
            for n in range(3):
                with pytest.raises(InferenceFailed, match="died"):
                    await submit(batcher, encoded(DEADLY))
                assert answers(await submit(batcher, encoded(n))) == [n]
            assert batcher.failures == []

    run(scenario)


def test_a_model_without_success_for_longer_than_it_may_take_is_a_problem() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            batcher._last_success = monotonic() - 25
            assert batcher.problem == "the model fails"
            batcher._rate.add(tokens=100, seconds=1000.0)
            running = await occupied(batcher, model)
            assert batcher.problem is None  # a batch of ten seconds, after twenty without any
            model.release_all()
            await running
            batcher._rate = DrainRate(full_tokens=64)
            assert batcher.problem is None

    run(scenario)


def test_a_busy_model_is_not_asked_and_a_full_or_closed_queue_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher_module, "_CANARY_SECONDS", 0.0)
    monkeypatch.setattr(batcher_module, "_WATCH_SECONDS", 0.001)
    looks: list[float] = []

    def look(batcher: DynamicBatcher, seconds: float, factor: float) -> bool:
        looks.append(seconds)
        return False

    monkeypatch.setattr(DynamicBatcher, "_is_late", look)

    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model, max_queue_tokens=5) as batcher:
            await occupied(batcher, model)
            looks.clear()
            await until(lambda: len(looks) > 3)
            assert batcher.queue.texts == 0
            submit(batcher, encoded(7, 5))
            await asyncio.sleep(0)
            batcher._send_canary()
            assert batcher.queue.texts == 1
        batcher._send_canary()
        assert batcher._watch.cancelled()

    run(scenario)


def test_an_idle_model_is_asked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_CANARY_SECONDS", 0.0)

    async def scenario() -> None:
        model = FakeModel()
        async with batching(model):
            await until(lambda: len(model.batches) >= 2)

    run(scenario)


@dies
@pytest.mark.parametrize("seed", range(3))
def test_every_accepted_call_is_answered_once_whatever_happens(seed: int) -> None:
    """Overload, deadlines, leaving callers, poison and a dying thread, all at once."""

    async def scenario() -> None:
        rng = random.Random(seed)
        model = FakeModel()
        async with batching(model, max_batch_tokens=64, max_queue_tokens=300) as batcher:
            calls = []
            for n in range(600):
                kind = rng.choices([20 + n % 50, POISON, NAN, DEADLY], [95, 2, 2, 0.3])[0]
                texts = [encoded(kind, rng.randint(1, 20)) for _ in range(rng.randint(1, 4))]
                calls.append(submit(batcher, *texts, timeout=rng.choice([0.001, 0.05, PATIENT])))
                if rng.random() < 0.3:
                    await asyncio.sleep(0.001)  # the thread needs a turn, too
                if rng.random() < 0.1:
                    rng.choice(calls).cancel()
            outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
            allowed = (
                DeadlineExpired,
                InferenceFailed,
                QueueFull,
                WouldExpire,
                asyncio.CancelledError,
            )
            assert all(isinstance(o, (list, *allowed)) for o in outcomes)
            # Of 600; a busy machine is late often.
            assert sum(isinstance(o, list) for o in outcomes) > 10
            assert not batcher._in_flight
            await until(lambda: (batcher.queue.texts, batcher.queue.tokens) == (0, 0))  # canaries

    run(scenario)
