"""The service: who reads what in which thread, when it is full, and what belongs to one model."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import reading
from app.batcher import keys_of
from app.errors import DeadlineExpired
from app.main import create_app
from model.checkpoint import save_classifier
from model.explain import MAX_TOKENS
from model.gpt2 import GPT2Config
from model.prediction import EncodedText, Prediction
from model.windows import WindowedText, encode_windows
from tests.batching import until
from tests.conftest import tiny_classifier_model
from tests.fake_model import FakeModel
from tests.serving import make_settings, post, replace_model, running, serving

LONG = "long " * 1_000
"""More than is read in the event loop."""


class SlowReader:
    """Reads texts once it is let; those that begin with ``held``, or all."""

    def __init__(self, held: str = "") -> None:
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self._held = held

    def __call__(self, text: str, *arguments: Any) -> WindowedText:
        if text.startswith(self._held):
            self.reading.set()
            assert self.go_on.wait(30)
        return encode_windows(text, *arguments)


def test_lists_do_not_keep_single_messages_from_being_read(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving(folder) as client:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            lists = [post(client, f"list {n} {LONG}", "of two") for n in range(3)]
            await until(slow.reading.is_set)
            headers = {"X-Timeout-Ms": "5000"}
            for path in ("/classify/message", "/checkv2"):
                reply = await client.post(path, content=b"Subject: x\n\nhi", headers=headers)
                assert reply.status_code == 200
            assert not any(task.done() for task in lists)
            slow.go_on.set()
            assert [(await task).status_code for task in lists] == [200] * 3

    slow = SlowReader("list")
    folder = save_tiny()
    monkeypatch.setattr(reading, "encode_windows", slow)
    asyncio.run(scenario())


def test_a_short_list_is_read_beside_a_long_one(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def note(text: str, *arguments: Any) -> WindowedText:
        read.append(text[:5])
        return slow(text, *arguments)

    async def scenario() -> None:
        app = create_app(make_settings(folder))
        async with running(app) as client:
            long = post(client, LONG, *["more "] * 50)
            await until(slow.reading.is_set)
            short = post(client, f"short {LONG}", "of two")
            await until(lambda: app.state.service._pending_texts == 53)
            slow.go_on.set()
            assert [(await task).status_code for task in (short, long)] == [200, 200]

    slow = SlowReader("long")
    folder = save_tiny()
    monkeypatch.setattr(reading, "encode_windows", note)
    monkeypatch.setattr(reading, "_TURN_SECONDS", -1.0)
    asyncio.run(scenario())
    assert "short" in read[:3]
    assert "of tw" in read[:5]


def test_lists_that_nobody_has_begun_to_read_are_refused_at_the_end(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(folder))
        async with running(app) as client:
            begun = post(client, f"begun {LONG}", "of two")
            await until(slow.reading.is_set)
            threads = [t for t in threading.enumerate() if t.name.startswith("lists")]
            waiting = post(client, f"waiting {LONG}", "of two")
            await until(lambda: app.state.service._pending_texts == 4)
            await app.state.service.close()
            slow.go_on.set()
            for reply in (await waiting, await begun):
                assert (reply.status_code, reply.json()["code"]) == (503, "not_ready")
            for thread in threads:
                await asyncio.to_thread(thread.join, 5)
            assert [thread.is_alive() for thread in threads] == [False]

    slow = SlowReader()
    folder = save_tiny()
    monkeypatch.setattr(reading, "encode_windows", slow)
    asyncio.run(scenario())


def test_a_list_whose_client_has_gone_is_read_no_further(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def read_slowly(text: str, *arguments: Any) -> WindowedText:
        read.append(text[:4])
        return slow(text, *arguments)

    async def scenario() -> None:
        async with running(create_app(make_settings(folder))) as client:
            gone = post(client, LONG, *["more"] * 50)
            await until(slow.reading.is_set)
            gone.cancel()
            await asyncio.wait([gone])
            slow.go_on.set()
            assert (await post(client, f"next {LONG}", "of two")).status_code == 200
        assert "more" not in read

    slow = SlowReader()
    folder = save_tiny()
    monkeypatch.setattr(reading, "encode_windows", read_slowly)
    monkeypatch.setattr(reading, "_TURN_SECONDS", 60.0)  # all in one
    asyncio.run(scenario())


def test_keys_of_long_and_of_many_texts_are_made_where_these_are_read(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def keys(texts: list[EncodedText]) -> list[bytes]:
        threads.append(threading.current_thread())
        return keys_of(texts)

    async def scenario() -> None:
        async with serving(save_tiny()) as client:
            for texts in ([LONG], [LONG, "of two"], ["a"] * 100):
                assert (await post(client, *texts)).status_code == 200

    monkeypatch.setattr(reading, "keys_of", keys)
    asyncio.run(scenario())
    assert len(threads) == 3
    assert threading.main_thread() not in threads


def test_the_model_has_the_time_that_reading_has_left(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> list[float]:
        left: list[float] = []

        async def submit(*arguments: Any) -> list[Prediction]:
            left.append(arguments[-1])
            return [Prediction(0.5, 0.5, 1, False)]

        app = create_app(make_settings(folder))
        async with running(app):
            app.state.service.engine.batcher.submit = submit
            for text in ("short", LONG):
                await app.state.service.classify([text], 60.0)
        return left

    folder = save_tiny()
    for seconds in asyncio.run(scenario()):
        assert 0 < seconds < 60


def test_a_list_of_more_than_may_wait_is_taken_where_none_waits(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        async with serving(save_tiny(), max_pending_texts=4) as client:
            assert (await post(client, *"12345")).status_code == 200

    asyncio.run(scenario())


def test_a_list_of_more_than_may_wait_keeps_out_no_single_text(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), max_pending_texts=16))
        async with running(app) as client:
            model = FakeModel(held=True)
            replace_model(app, model)
            tasks = [post(client, *(f"text {n}" for n in range(20)))]
            await until(lambda: app.state.service._pending_texts == 20)
            assert (await post(client, "one", "two")).status_code == 429
            assert (await client.get("/readyz")).status_code == 200
            tasks += [post(client, "a single text"), post(client, "another one")]
            await until(lambda: app.state.service._pending_texts == 22)
            await assert_full(client, "one more")
            model.release_all()
            assert {(await task).status_code for task in tasks} == {200}
            assert app.state.service._pending_in_lists == 0

    asyncio.run(scenario())


async def assert_full(client: httpx.AsyncClient, text: str) -> None:
    """Asserts that a text is refused, and that the service does not ask for any."""
    reply = await post(client, text)
    assert (reply.status_code, reply.json()["code"]) == (429, "queue_full")
    for path in ("/readyz", "/health"):
        health = await client.get(path)
        assert (health.status_code, health.json()["reason"]) == (503, "the queue is full")
    assert "\nspamgate_ready 0.0\n" in (await client.get("/metrics")).text


def test_it_is_not_ready_where_as_many_texts_wait_as_may(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), max_pending_texts=4))
        async with running(app) as client:
            model = FakeModel(held=True)
            replace_model(app, model)
            tasks = [post(client, f"text {n}") for n in range(3)]
            await until(lambda: app.state.service._pending_texts == 3)
            assert app.state.service.problem != "the queue is full"
            tasks.append(post(client, "the fourth"))
            await until(lambda: app.state.service._pending_texts == 4)
            await assert_full(client, "one more")
            # How long what is still being read will take, nobody knows.
            assert (await post(client, "one more")).json()["retry_after_ms"] >= 1000
            model.release_all()
            assert {(await task).status_code for task in tasks} == {200}
            assert (await client.get("/readyz")).status_code == 200

    asyncio.run(scenario())


def test_it_is_not_ready_where_a_text_that_the_model_reads_at_once_finds_no_room(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), max_queue_tokens=4096))
        async with running(app) as client:
            model, queue = FakeModel(held=True), app.state.service.engine.batcher.queue
            replace_model(app, model)
            tasks = [post(client, "first")]
            await model.until_started()
            tasks += [post(client, f"text {n} " + "word " * 700) for n in range(4)]
            await until(lambda: queue.texts == 4)
            assert app.state.service.problem != "the queue is full"
            tasks.append(post(client, "the fifth " + "word " * 700))
            await until(lambda: queue.texts == 5)
            await assert_full(client, "one more " + "word " * 1_000)
            model.release_all()
            assert {(await task).status_code for task in tasks} == {200}

    asyncio.run(scenario())


def test_an_explanation_is_of_one_model_though_another_comes(
    save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which the contexts differ: windows for the one are too long for the other."""

    async def scenario() -> None:
        app = create_app(make_settings(folder))
        async with running(app):
            of_two = app.state.service
            monkeypatch.setattr(reading, "encode_windows", slow)
            explaining = asyncio.create_task(of_two.explain("word " * 700, 20.0))
            await until(slow.reading.is_set)
            assert of_two._pending_texts == 1
            before = of_two.engine
            reload = asyncio.create_task(of_two.reload(str(short)))
            await until(lambda: of_two.engine is not before)
            slow.go_on.set()
            text, influences = await explaining
            assert text[influences[-1].start : influences[-1].end].startswith("word")
            assert (await reload).startswith("short@")
            assert before.pending_texts == 0

    slow = SlowReader()
    folder, short = save_tiny(), tmp_path / "short"
    short.mkdir()
    config = GPT2Config(n_layer=2, n_head=4, n_embd=32, n_positions=64)
    save_classifier(short, tiny_classifier_model(config=config), read_token="last")
    asyncio.run(scenario())


@pytest.mark.parametrize("num_words", [280, 700])
def test_an_explanation_reads_as_many_tokens_as_it_may(
    num_words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of windows, which read a text nearly twice, or but the half of it."""
    config = GPT2Config(n_layer=2, n_head=4, n_embd=32, n_positions=64)
    save_classifier(tmp_path, tiny_classifier_model(config=config), read_token="last")
    read: list[int] = []

    def count(*arguments: Any) -> WindowedText:
        found = encode_windows(*arguments)
        read.append(sum(len(window.token_ids) for window in found.windows))
        return found

    async def scenario() -> None:
        app = create_app(make_settings(tmp_path))
        async with running(app):
            monkeypatch.setattr(reading, "encode_windows", count)
            await app.state.service.explain("word " * num_words, 20.0)

    asyncio.run(scenario())
    variants = read[2:]  # after the whole, which is counted and read
    assert 0.9 * MAX_TOKENS < sum(variants) <= MAX_TOKENS


def test_an_explanation_for_which_no_thread_is_free_ends_in_time(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(folder))
        async with running(app):
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            go_on = threading.Event()
            busy = asyncio.create_task(asyncio.to_thread(go_on.wait, 30))
            await asyncio.sleep(0)
            explaining = app.state.service.explain("hello there", 0.05)
            with pytest.raises(DeadlineExpired, match="Reading it took all"):
                await asyncio.wait_for(explaining, 5)
            go_on.set()
            await busy

    folder = save_tiny()
    asyncio.run(scenario())
