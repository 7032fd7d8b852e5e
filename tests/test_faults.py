"""The service under attack, over HTTP: overload, deadlines, leaving clients, faults, switches."""

import asyncio
import gzip
import json
import re
import shutil
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app import service
from app.main import create_app
from app.settings import Settings
from model.classifier import Classifier
from model.windows import WindowedText, encode_windows
from tests.fake_model import FakeModel
from tests.serving import make_settings, replace_model, running, serving


def post(client: httpx.AsyncClient, *texts: str, timeout_ms: int | None = None):
    headers = {"X-Timeout-Ms": str(timeout_ms)} if timeout_ms else {}
    return asyncio.create_task(
        client.post("/classify", json={"texts": list(texts)}, headers=headers)
    )


async def held(app: FastAPI, client: httpx.AsyncClient) -> tuple[FakeModel, asyncio.Task]:
    """A model that is held by a first text."""
    model = FakeModel(held=True)
    replace_model(app, model)
    first = post(client, "first")
    await model.until_started()
    return model, first


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


def test_bodies_beyond_the_bytes_that_are_held_are_refused(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny(), max_pending_bytes=1024, max_body_bytes=10_000))
        async with running(app) as client:
            model, first = await held(app, client)
            plain = post(client, "one " * 2_000)
            two = json.dumps({"texts": ["two " * 2_000]}).encode()
            packed = asyncio.create_task(
                client.post(
                    "/classify", content=gzip.compress(two), headers={"Content-Encoding": "gzip"}
                )
            )
            async with asyncio.timeout(10):
                while app.state.body_budget._held_bytes < 16_000:
                    await asyncio.sleep(0.01)
            for path in ("/classify", "/classify/message"):
                reply = await client.post(path, content=two)
                assert (reply.status_code, reply.json()["code"]) == (429, "queue_full")
                assert reply.headers["retry-after"] == "1"
            assert (await client.get("/livez")).status_code == 200
            model.release_all()
            assert [(await r).status_code for r in (first, plain, packed)] == [200, 200, 200]
            assert app.state.body_budget._held_bytes == 0
            assert (await client.post("/classify", content=two)).status_code == 200

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
            assert reply.json()["retry_after_ms"] > 1000
            assert re.search(r" about \d{4,} ms,", reply.json()["detail"])
            wrong = await client.post(
                "/classify", json={"texts": ["a"]}, headers={"X-Timeout-Ms": "x"}
            )
            assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")
            model.release_all()
            assert (await first).status_code == 200
            assert model.batches == [[1]]  # neither of the late ones

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


def test_readiness_falls_while_the_model_hangs_and_comes_back(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
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
            giants = [post(client, letter * 1_000_000) for letter in "éüö"]
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


def test_switching_checkpoints_under_load_fails_no_request(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> None:
        admin = {"Authorization": "Bearer admin"}
        async with serving(folder, admin_key="admin", cache_bytes=0) as client:
            served: list[tuple[int, str]] = []
            stop = asyncio.Event()

            async def keep_asking(number: int) -> None:
                n = 0
                while not stop.is_set():
                    n += 1
                    reply = await client.post("/classify", json={"texts": [f"{number} {n}"]})
                    served.append((reply.status_code, reply.json()["model"]))

            askers = [asyncio.create_task(keep_asking(n)) for n in range(4)]
            new = {"checkpoint": str(other)}
            switched = await client.post("/admin/reload", json=new, headers=admin)
            assert switched.json()["model"] == Classifier.load(other, "cpu").name
            for name in ("missing", "no UTF-8: \udcff"):
                missing = json.dumps({"checkpoint": str(other / name)})
                refused = await client.post("/admin/reload", content=missing, headers=admin)
                assert (refused.status_code, refused.json()["code"]) == (409, "reload_failed")
            assert (await client.get("/health")).json()["model"] == switched.json()["model"]
            back = await client.post("/admin/rollback", headers=admin)
            assert back.json()["model"] == Classifier.load(folder, "cpu").name
            again = await client.post("/admin/reload", headers=admin)  # without a body
            assert again.json()["model"] == back.json()["model"]
            stop.set()
            await asyncio.gather(*askers)
            assert {status for status, _ in served} == {200}
            assert {name for _, name in served} == {switched.json()["model"], back.json()["model"]}

    folder, other = save_tiny("tiny"), save_tiny("other", seed=1)
    asyncio.run(scenario())


def test_a_switch_waits_for_what_is_still_being_read(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def read_slowly(*arguments: Any) -> WindowedText:
        reading.set()
        assert go_on.wait(30)
        return encode_windows(*arguments)

    async def scenario() -> None:
        async with serving(save_tiny(), admin_key="admin") as client:
            monkeypatch.setattr(service, "encode_windows", read_slowly)
            request = post(client, "long " * 1000)  # not read in the event loop
            await asyncio.to_thread(reading.wait, 30)
            headers = {"X-API-Key": "admin"}
            switch = asyncio.create_task(client.post("/admin/reload", headers=headers))
            while (await client.get("/metrics")).text.count("model_info{") < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # loading takes less
            assert not switch.done()
            go_on.set()
            assert (await request).status_code == 200
            assert (await switch).status_code == 200

    asyncio.run(scenario())


def test_a_reload_asked_for_during_the_first_load_comes_after_it(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, go_on = service._load, threading.Event()

    def load_slowly(settings: Settings, checkpoint: str) -> Classifier:
        if checkpoint == str(first):
            assert go_on.wait(30)
        return load(settings, checkpoint)

    async def scenario() -> str:
        monkeypatch.setattr(service, "_load", load_slowly)
        of_two = service.Service(make_settings(first), lambda code: None)
        start = asyncio.create_task(of_two.load())
        await asyncio.sleep(0)
        reload = asyncio.create_task(of_two.reload(str(second)))
        await asyncio.sleep(0.3)  # what it would take, were it not for the first
        go_on.set()
        await asyncio.gather(start, reload)
        assert of_two.engine is not None
        await of_two.close()
        return of_two.engine.classifier.name

    first, second = save_tiny("tiny"), save_tiny("other", seed=1)
    assert asyncio.run(scenario()) == Classifier.load(second, "cpu").name


def test_a_new_checkpoint_with_wrong_golden_answers_is_not_switched_to(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> None:
        async with serving(folder, admin_key="admin") as client:
            before = (await client.get("/health")).json()["model"]
            refused = await client.post(
                "/admin/reload", json={"checkpoint": str(other)}, headers={"X-API-Key": "admin"}
            )
            assert refused.status_code == 409
            assert "golden message" in refused.json()["detail"]
            assert (await client.get("/health")).json()["model"] == before

    folder, other = save_tiny("tiny"), save_tiny("other", seed=1)
    shutil.copy(folder / "golden.json", other / "golden.json")
    asyncio.run(scenario())


def test_any_failure_of_a_reload_keeps_the_model(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_load(settings: object, checkpoint: str) -> None:
        raise KeyError("no kind that the service knows")

    async def scenario() -> None:
        async with serving(save_tiny(), admin_key="admin") as client:
            monkeypatch.setattr(service, "_load", fail_to_load)
            refused = await client.post("/admin/reload", headers={"X-API-Key": "admin"})
            assert (refused.status_code, refused.json()["code"]) == (409, "reload_failed")
            assert (await client.get("/health")).status_code == 200

    asyncio.run(scenario())


def test_the_admin_door_is_shut_without_its_key(save_tiny: Callable[..., Path]) -> None:
    async def scenario(**settings: object) -> list[int]:
        async with serving(folder, **settings) as client:
            paths = ("/admin/reload", "/admin/rollback")
            replies = [await client.post(p, headers={"X-API-Key": "wrong"}) for p in paths]
            return [reply.status_code for reply in replies]

    folder = save_tiny()
    assert asyncio.run(scenario()) == [404, 404]
    assert asyncio.run(scenario(admin_key="admin")) == [401, 401]


def test_info_tells_model_and_limits(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> Any:
        async with serving(folder, max_texts=7) as client:
            return (await client.get("/info")).json()

    folder = save_tiny()
    (folder / "run.json").write_text('{"recipe": "test", "metrics": {"mcc": 0.5}}')
    info = asyncio.run(scenario())
    assert info["model"].startswith("tiny@")
    assert (info["labels"], info["max_tokens"], info["max_texts"]) == (["ham", "spam"], 1024, 7)
    assert info["run"]["metrics"] == {"mcc": 0.5}
    assert 512 <= info["max_batch_tokens"] <= 16384
