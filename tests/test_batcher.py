"""Batches across requests: sharing, admission, deadlines, cancelling, and models that fail."""

import asyncio
import random
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from app import batcher as batcher_module
from app.batcher import DrainRate, DynamicBatcher, Limits
from app.errors import DeadlineExpired, InferenceFailed, QueueFull, WouldExpire
from app.model_thread import predict_each
from model.classifier import EncodedText, Prediction
from tests.fake_model import DEADLY, NAN, POISON, FakeModel, encoded

PATIENT = 20.0


@asynccontextmanager
async def batching(model: FakeModel, **limits: float):
    """A batcher in front of a model; at the end everything that waits is let through."""
    failures: list[str] = []
    batcher = DynamicBatcher(
        model,
        Limits(**limits),  # type: ignore[arg-type]
        on_failure=failures.append,
    )
    batcher.failures = failures  # type: ignore[attr-defined]
    yield batcher
    model.release_all()
    await batcher.close(10)


# The thread ends by SystemExit on purpose; pytest would make a warning of it.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def submit(
    batcher: DynamicBatcher, *texts: EncodedText, timeout: float = PATIENT
) -> asyncio.Task[list[Prediction]]:
    return asyncio.create_task(batcher.submit(texts, timeout))


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


def test_what_waits_while_the_model_runs_becomes_one_batch() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            calls = [await occupied(batcher, model)]
            calls += [submit(batcher, encoded(n), encoded(20 + n)) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            model.release_all()
            results = await asyncio.gather(*calls)
        assert model.batches == [[1], [1] * 6]
        assert list(map(answers, results)) == [[0], [1, 21], [2, 22], [3, 23]]

    run(scenario)


def test_one_request_may_be_split_over_batches_and_keeps_its_order() -> None:
    async def scenario() -> None:
        model = FakeModel()
        async with batching(model, max_batch_tokens=10) as batcher:
            texts = [encoded(n, 1 + n % 7) for n in range(20, 60)]
            assert answers(await submit(batcher, *texts)) == list(range(20, 60))
        assert len(model.batches) > 10
        assert max(map(sum, model.batches)) <= 10

    run(scenario)


def test_equal_texts_in_flight_are_computed_once() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            first = await occupied(batcher, model)
            calls = [submit(batcher, encoded(7), encoded(8), encoded(7)) for _ in range(5)]
            calls.append(submit(batcher, encoded(0)))  # equal to the one that is running
            await asyncio.sleep(0)
            model.release_all()
            assert answers(await first) == answers(await calls.pop()) == [0]
            for call in calls:
                assert answers(await call) == [7, 8, 7]
        assert model.batches == [[1], [1, 1]]

    run(scenario)


def test_the_cache_answers_without_the_model_and_off_means_off() -> None:
    async def scenario(cache_bytes: int) -> int:
        model = FakeModel()
        async with batching(model, cache_bytes=cache_bytes) as batcher:
            for _ in range(3):
                assert answers(await submit(batcher, encoded(7))) == [7]
        return len(model.batches)

    assert asyncio.run(scenario(10_000)) == 1
    assert asyncio.run(scenario(0)) == 3


def test_cut_and_whole_texts_are_told_apart() -> None:
    async def scenario() -> None:
        async with batching(FakeModel(), cache_bytes=10_000) as batcher:
            whole = encoded(7)
            cut = EncodedText(whole.token_ids, truncated=True)
            for text in (whole, cut, whole, cut):
                assert (await submit(batcher, text))[0].truncated is text.truncated

    run(scenario)


def test_a_window_is_cached_with_the_text_that_it_is_of() -> None:
    async def scenario() -> None:
        model = FakeModel()
        async with batching(model, cache_bytes=10_000) as batcher:
            for whole in (None, [7, 8], [7, 9], [7, 8]):
                await submit(batcher, EncodedText([7], truncated=False, whole=whole))
        assert len(model.batches) == 3

    run(scenario)


def test_a_caller_that_leaves_frees_its_place_but_not_that_of_others() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            await occupied(batcher, model)
            leaving = submit(batcher, encoded(7), encoded(8, 5))
            staying = submit(batcher, encoded(7))
            await asyncio.sleep(0)
            assert (batcher.queue.texts, batcher.queue.tokens) == (2, 6)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert (batcher.queue.texts, batcher.queue.tokens) == (1, 1)
            model.release_all()
            assert answers(await staying) == [7]
        assert model.batches == [[1], [1]]

    run(scenario)


def test_a_text_stays_for_the_longest_of_the_times_that_its_callers_have() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            await occupied(batcher, model)
            hasty = submit(batcher, encoded(7), timeout=0.05)
            patient = submit(batcher, encoded(7))
            with pytest.raises(DeadlineExpired):
                await hasty
            model.release_all()
            assert answers(await asyncio.wait_for(patient, 5)) == [7]

    run(scenario)


def test_a_text_that_the_model_has_already_is_shared_though_its_caller_left() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            leaving = await occupied(batcher, model)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            staying = submit(batcher, encoded(0))
            await asyncio.sleep(0)
            model.release_all()
            assert answers(await staying) == [0]
        assert model.batches == [[1]]

    run(scenario)


def test_a_caller_whose_time_is_over_already_costs_the_model_nothing() -> None:
    async def scenario() -> None:
        model = FakeModel()
        async with batching(model) as batcher:
            with pytest.raises(DeadlineExpired, match="Reading it took all of its time"):
                await submit(batcher, encoded(7), timeout=0.0)
        assert model.batches == []

    run(scenario)


def test_an_expired_caller_is_told_in_time_and_its_text_is_not_computed() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            await occupied(batcher, model)
            with pytest.raises(DeadlineExpired, match="within 50 ms"):
                await submit(batcher, encoded(7), timeout=0.05)
            assert batcher.queue.texts == 0
        assert model.batches == [[1]]

    run(scenario)


def test_a_full_queue_refuses_with_the_time_it_needs_to_drain() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model, max_queue_tokens=10) as batcher:
            batcher._rate.add(tokens=100, seconds=10.0)
            await occupied(batcher, model)
            waiting = submit(batcher, encoded(7, 9))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull) as refusal:
                await submit(batcher, encoded(8, 4))
            # 13 tokens in a place for 10, at 0.1 s a token.
            assert refusal.value.retry_after_seconds == pytest.approx(0.3)
            model.release_all()
            assert answers(await waiting) == [7]

    run(scenario)


def test_the_expected_time_follows_the_last_batches() -> None:
    rate = DrainRate()
    assert rate.seconds_for(100) == 0
    rate.add(tokens=100, seconds=1.0)
    assert rate.seconds_for(50) == pytest.approx(0.5)
    rate.add(tokens=300, seconds=0.3)  # larger, and newer
    assert rate.seconds_for(50) == pytest.approx(50 * (0.9 + 0.3) / (90 + 300))
    for _ in range(50):
        rate.add(tokens=100, seconds=2.0)
    assert rate.seconds_for(50) == pytest.approx(1.0, rel=0.01)


def test_a_wait_longer_than_the_caller_has_is_refused_at_once() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            batcher._rate.add(tokens=100, seconds=10.0)
            await occupied(batcher, model)
            waiting = submit(batcher, encoded(7, 50))
            await asyncio.sleep(0)
            with pytest.raises(WouldExpire, match=r"about 5.2 s") as refusal:
                await submit(batcher, encoded(8), timeout=1.0)
            assert refusal.value.retry_after_seconds == pytest.approx(5.2)
            assert batcher.queue.texts == 1
            model.release_all()
            await waiting

    run(scenario)


def test_a_model_asked_for_single_tokens_is_not_thought_slow() -> None:
    rate = DrainRate()
    for _ in range(100):
        rate.add(tokens=1, seconds=0.015)  # GPT-2 on two cores
    assert rate.seconds_for(4096) < 1


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


def test_a_model_thread_that_hangs_is_noticed_at_once_and_replaced_in_the_end() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model, stall_seconds=1.0) as batcher:
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


@dies
def test_a_thread_that_cannot_be_kept_alive_is_reported_once() -> None:
    async def scenario() -> None:
        async with batching(FakeModel(), max_restarts=2) as batcher:
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
        run(scenario)


@dies
def test_only_threads_that_end_in_a_row_are_too_many() -> None:
    async def scenario() -> None:
        async with batching(FakeModel(), max_restarts=1) as batcher:
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
            batcher._rate = DrainRate()
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


def test_close_answers_everything_that_waits() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        batcher = DynamicBatcher(model, Limits(max_batch_tokens=1))
        call = submit(batcher, *(encoded(n) for n in range(5)))
        await model.until_started()
        closing = asyncio.create_task(batcher.close(10))
        model.release_all()
        await closing
        assert answers(await call) == [0, 1, 2, 3, 4]

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
