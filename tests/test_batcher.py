"""Batches across requests: sharing, admission, deadlines, cancelling."""

import asyncio
from hashlib import blake2b
from typing import Any

import pytest

from app.batcher import DrainRate, DynamicBatcher, keys_of
from app.errors import DeadlineExpired, QueueFull, WouldExpire
from model.prediction import EncodedText
from tests.batching import answers, batching, limits_with, occupied, run, submit
from tests.fake_model import FakeModel, encoded


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


def test_a_text_of_a_list_does_not_hold_up_who_asks_for_it_alone() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            await occupied(batcher, model)
            listed = submit(batcher, *(encoded(100 + n, 64) for n in range(100)))
            await asyncio.sleep(0)
            alone = submit(batcher, encoded(180, 64))
            await asyncio.sleep(0)
            turns = [entry.text for entry in sorted(batcher.queue._heap)]
            assert turns.index(encoded(180, 64)) < 20
            assert turns.index(encoded(190, 64)) == 90
            model.release_all()
            assert answers(await alone) == [180]
            assert answers(await listed) == list(range(100, 200))

    run(scenario)


def test_a_long_text_of_a_list_does_not_hold_up_who_asks_for_it_alone() -> None:
    async def scenario() -> None:
        whole = [300] * 64 + [301] * 64
        windows = [EncodedText([n] * 64, whole=whole) for n in (300, 301)]
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            await occupied(batcher, model)
            listed = submit(batcher, *(encoded(100 + n, 64) for n in range(100)), *windows)
            await asyncio.sleep(0)
            alone = submit(batcher, *windows, num_texts=1)
            await asyncio.sleep(0)
            turns = [entry.text for entry in sorted(batcher.queue._heap)]
            assert max(map(turns.index, windows)) < 20
            model.release_all()
            assert answers(await alone) == [300, 301]
            assert answers(await listed)[-2:] == [300, 301]

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


def test_a_window_is_cached_with_the_text_that_it_is_of() -> None:
    async def scenario() -> None:
        model = FakeModel()
        async with batching(model, cache_bytes=10_000) as batcher:
            for whole in (None, [7, 8], [7, 9], [7, 8]):
                await submit(batcher, EncodedText([7], whole=whole))
        assert len(model.batches) == 3

    run(scenario)


def test_the_text_of_all_its_windows_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def hash_and_tell(content: bytes) -> Any:
        hashed.append(content)
        return blake2b(content)

    monkeypatch.setattr("app.batcher.blake2b", hash_and_tell)
    windows = [
        EncodedText([token], whole=whole) for whole in ([7, 8, 9], [7, 8, 10]) for token in (7, 8)
    ]
    assert len({*keys_of(windows), *keys_of([encoded(7), encoded(8)])}) == 6
    assert len(hashed) == 2
    again = [EncodedText([7], whole=[7, 8, 9])]  # another list
    assert keys_of(again) == keys_of(windows)[:1]


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
            # More than the place ever has, but for the time when nothing waits.
            with pytest.raises(QueueFull) as refusal:
                await submit(batcher, encoded(9, 50))
            assert refusal.value.retry_after_seconds == pytest.approx(0.9)
            model.release_all()
            assert answers(await waiting) == [7]

    run(scenario)


def test_the_expected_time_follows_the_last_batches() -> None:
    rate = DrainRate(full_tokens=64)
    assert rate.seconds_for(100) == 0
    rate.add(tokens=100, seconds=1.0)
    assert rate.seconds_for(50) == pytest.approx(0.5)
    rate.add(tokens=300, seconds=0.3)  # larger, and newer
    assert rate.seconds_for(50) == pytest.approx(50 * (0.9 + 0.3) / (90 + 300))
    for _ in range(50):
        rate.add(tokens=100, seconds=2.0)
    assert rate.seconds_for(50) == pytest.approx(1.0, rel=0.01)


def test_a_pause_of_the_machine_is_not_taken_for_the_models_pace() -> None:
    rate = DrainRate(full_tokens=64)
    for _ in range(50):
        rate.add(tokens=100, seconds=0.1)
    rate.add(tokens=100, seconds=60.0)
    assert rate.seconds_for(100) < 0.25
    for _ in range(60):
        rate.add(tokens=100, seconds=1.0)  # it has slowed down indeed
    assert rate.seconds_for(100) > 0.9


def test_a_wait_longer_than_the_caller_has_is_refused_at_once() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        async with batching(model) as batcher:
            batcher._rate.add(tokens=100, seconds=10.0)
            await occupied(batcher, model)
            waiting = submit(batcher, encoded(7, 50))
            await asyncio.sleep(0)
            with pytest.raises(WouldExpire, match=r"about 11100 ms.* Try again") as refusal:
                await submit(batcher, encoded(8, 60), timeout=7.0)
            assert refusal.value.retry_after_seconds == pytest.approx(11.1)
            # It alone takes longer than this, whenever it comes.
            with pytest.raises(WouldExpire, match=r"waits\. Allow more") as refusal:
                await submit(batcher, encoded(8, 60), timeout=1.0)
            assert refusal.value.retry_after_seconds is None
            # Of a list it is the last text that counts, which waits for the other.
            with pytest.raises(WouldExpire, match=r"about 11200 ms.* Try again"):
                await submit(batcher, encoded(8), encoded(9, 60), timeout=8.0)
            assert batcher.queue.texts == 1
            # A short one does not wait for the other.
            short = submit(batcher, encoded(9), timeout=1.0)
            await asyncio.sleep(0)
            assert batcher.queue.texts == 2
            model.release_all()
            assert answers(await short) == [9]
            await waiting

    run(scenario)


def test_a_model_asked_for_single_tokens_is_not_thought_slow() -> None:
    rate = DrainRate(full_tokens=64)
    for _ in range(100):
        rate.add(tokens=1, seconds=0.015)  # GPT-2 on two cores
    assert rate.seconds_for(4096) < 1


def test_close_answers_everything_that_waits() -> None:
    async def scenario() -> None:
        model = FakeModel(held=True)
        batcher = DynamicBatcher(model, limits_with(max_batch_tokens=1))
        call = submit(batcher, *(encoded(n) for n in range(5)))
        await model.until_started()
        closing = asyncio.create_task(batcher.close(10))
        model.release_all()
        await closing
        assert answers(await call) == [0, 1, 2, 3, 4]

    run(scenario)
