"""The service under attack, over HTTP: overload, deadlines, leaving clients and faults."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI

from app import reading
from app.main import create_app
from model.prediction import EncodedText, Prediction
from model.windows import WindowedText, encode_windows
from tests.fake_model import FakeModel
from tests.serving import held, make_settings, post, replace_model, running, serving


@pytest.mark.parametrize(
    ("settings", "code"),
    [({"max_pending_texts": 20}, "queue_full"), ({"max_queue_tokens": 1024}, "queue_full")],
)
def test_ten_times_too_much_is_refused_at_once_and_the_rest_is_answered(
    save_tiny: Callable[..., Path], settings: dict[str, int], code: str
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), **settings))
        async with running(app) as client:
            model, first = await held(app, client)
            flood = [post(client, f"n{n} " + "word " * 50) for n in range(200)]
            waiting = set(flood)
            while len(waiting) > 20:
                _, waiting = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
            assert (await client.get("/livez")).status_code == 200
            model.release_all()
            replies = await asyncio.gather(first, *flood)
            refused = [reply for reply in replies if reply.status_code != 200]
            assert 180 <= len(refused) <= 185
            for reply in refused:
                assert (reply.status_code, reply.json()["code"]) == (429, code)
                assert int(reply.headers["retry-after"]) >= 1
                assert reply.json()["retry_after_ms"] >= 1
            assert app.state.service._pending_texts == 0

    asyncio.run(scenario())


def test_lists_leave_room_for_single_texts(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), max_pending_texts=16))
        async with running(app) as client:
            model, first = await held(app, client)
            listed = post(client, *(f"n{n}" for n in range(13)))
            refused = await post(client, "two", "more")
            assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
            assert "at most 14 may wait" in refused.json()["detail"]
            single = [post(client, text) for text in ("one", "another")]
            beyond = await post(client, "a third")
            assert "at most 16 may wait" in beyond.json()["detail"]
            model.release_all()
            replies = await asyncio.gather(first, listed, *single)
            assert {reply.status_code for reply in replies} == {200}

    asyncio.run(scenario())


def test_deadlines_are_kept_whatever_the_model_does(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
            model, first = await held(app, client)
            late = post(client, "late", timeout_ms=50)
            reply = await asyncio.wait_for(late, 5)
            assert (reply.status_code, reply.json()["code"]) == (504, "deadline_expired")
            app.state.service.engine.batcher._rate.add(tokens=100, seconds=1000.0)
            reply = await post(client, "too late", timeout_ms=1000)
            assert (reply.status_code, reply.json()["code"]) == (503, "would_expire")
            assert "retry_after_ms" not in reply.json()  # it alone takes longer than that
            assert re.search(r" about \d{4,} ms,", reply.json()["detail"])
            wrong = await client.post(
                "/classify", json={"texts": ["a"]}, headers={"X-Timeout-Ms": "x"}
            )
            assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")
            model.release_all()
            assert (await first).status_code == 200
            assert model.batches == [[1]]  # neither of the late ones

    asyncio.run(scenario())


def test_deadlines_are_kept_while_texts_are_read(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, go_on = [], threading.Event()

    def read_slowly(text: str, *arguments: Any) -> WindowedText:
        read.append(text[:3])
        go_on.wait(30)
        return encode_windows(text, *arguments)

    async def scenario() -> None:
        async with serving(folder) as client:
            texts = ("one " * 1_000, "two " * 1_000)
            reply = await asyncio.wait_for(post(client, *texts, timeout_ms=100), 5)
            assert (reply.status_code, reply.json()["code"]) == (504, "deadline_expired")
            assert reply.json()["detail"].startswith("Reading it took all of its time")
            go_on.set()
            assert (await post(client, "three " * 1_000)).status_code == 200
        assert "two" not in read  # nobody waits for it

    folder = save_tiny()
    monkeypatch.setattr(reading, "encode_windows", read_slowly)
    asyncio.run(scenario())


async def raw_call(app: FastAPI, body: bytes, hang_up: asyncio.Event, *, whole: bool = True) -> int:
    """The status of one request whose client closes the connection, as uvicorn tells it."""
    messages = [{"type": "http.request", "body": body, "more_body": not whole}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/classify",
        "raw_path": b"/classify",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
    }
    await app(scope, receive, send)
    return statuses[0]


def as_body(text: str) -> bytes:
    return json.dumps({"texts": [text]}).encode()


def test_what_a_client_left_behind_is_not_computed(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with app.router.lifespan_context(app):
            await app.state.loading
            model, queue = FakeModel(held=True), app.state.service.engine.batcher.queue
            replace_model(app, model)
            hang_up = asyncio.Event()
            calls = [asyncio.create_task(raw_call(app, as_body("n0"), hang_up))]
            await model.until_started()  # alone: what came with it would be in its batch
            calls += [
                asyncio.create_task(raw_call(app, as_body(f"n{n}"), hang_up)) for n in range(1, 5)
            ]
            while queue.texts < 4:
                await asyncio.sleep(0)
            hang_up.set()
            statuses = await asyncio.wait_for(asyncio.gather(*calls), 5)
            assert statuses == [499] * 5
            assert (queue.texts, app.state.service._pending_texts) == (0, 0)
            model.release_all()

    asyncio.run(scenario())


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_defect(
    save_tiny: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> int:
        hang_up = asyncio.Event()
        hang_up.set()
        app = create_app(make_settings(save_tiny()))
        async with app.router.lifespan_context(app):
            await app.state.loading
            return await raw_call(app, b'{"texts": [', hang_up, whole=False)

    assert asyncio.run(scenario()) == 499
    assert "defect" not in caplog.messages


def test_what_the_end_of_the_service_cuts_off_is_told_to_ask_elsewhere(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> int:
        app = create_app(make_settings(save_tiny()))
        async with app.router.lifespan_context(app):
            await app.state.loading
            model = FakeModel(held=True)
            replace_model(app, model)
            call = asyncio.create_task(raw_call(app, as_body("a"), asyncio.Event()))
            await model.until_started()
            call.cancel()  # as uvicorn does
            status = await call
            model.release_all()
            return status

    assert asyncio.run(scenario()) == 503


def test_a_poisoned_text_fails_alone(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
            model, first = await held(app, client)
            good = [post(client, f"good {n}") for n in range(20)]
            bad = post(client, ".")  # its one token is FakeModel's poison
            while app.state.service.engine.batcher.queue.texts < 21:
                await asyncio.sleep(0)
            model.release_all()
            reply = await bad
            assert (reply.status_code, reply.json()["code"]) == (500, "inference_failed")
            assert {(await task).status_code for task in [*good, first]} == {200}
            assert (await client.get("/readyz")).status_code == 200

    asyncio.run(scenario())


def test_a_gpu_that_has_failed_ends_the_process_at_once(
    save_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Until then it would refuse what comes, faster than others of the same port answer."""
    message = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"

    def broken(texts: Sequence[EncodedText]) -> list[Prediction]:
        raise torch.AcceleratorError(message)

    async def scenario() -> None:
        codes: list[int] = []
        app = create_app(make_settings(save_tiny()), codes.append)
        async with running(app) as client:
            replace_model(app, broken)
            replies = await asyncio.gather(*(post(client, f"n{n}") for n in range(5)))
            assert {reply.json()["code"] for reply in replies} == {"inference_failed"}
            async with asyncio.timeout(5):
                while not codes:
                    await asyncio.sleep(0.01)
            assert (await client.get("/readyz")).status_code == 503
            await post(client, "one more")
            assert codes == [3]

    asyncio.run(scenario())
    told = (
        "spamgate: the model cannot go on (CUDA error: an illegal memory access was encountered)\n"
    )
    assert capsys.readouterr().err.count(told) == 1


def test_readiness_falls_while_the_model_hangs_and_comes_back(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
            app.state.service.engine.batcher._rate.add(tokens=100, seconds=0.01)
            model, first = await held(app, client)
            async with asyncio.timeout(1.5):
                while (health := await client.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.01)
            assert "does not come back" in health.json()["reason"]
            assert (await client.get("/livez")).status_code == 200
            model.release_all()
            assert (await first).status_code == 200
            assert (await client.get("/readyz")).status_code == 200

    asyncio.run(scenario())


def test_a_giant_neither_delays_nor_fails_its_neighbours(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), max_batch_tokens=512))
        async with running(app) as client:
            model, first = await held(app, client)
            giants = [post(client, letter * 1_000_000) for letter in "длт"]
            shorts = [post(client, f"short {n}") for n in range(10)]
            queue = app.state.service.engine.batcher.queue
            while queue.texts < 13:
                await asyncio.sleep(0.001)
            model.release_all()
            for reply in [await task for task in [first, *shorts, *giants]]:
                assert reply.status_code == 200
            assert giants[0].result().json()["results"][0]["truncated"] is True
            assert [len(batch) for batch in model.batches] == [1, 10, 1, 1, 1]

    asyncio.run(scenario())
