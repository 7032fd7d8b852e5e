"""How much of bodies, and of what they hold, the service takes at a time."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from tests.fake_model import FakeModel
from tests.serving import held, make_settings, post, replace_model, running


def test_bodies_beyond_the_bytes_that_are_held_are_refused(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.bodies._MORE_MARKS", 10)  # so that bodies alone are what fills it

    async def scenario() -> None:
        # Room for two of the largest, of each of which 65,536 do not count.
        settings = make_settings(
            save_tiny(),
            max_pending_bytes=1024,
            max_body_bytes=100_000,
            max_texts=1,
            timeout_seconds=60,
        )
        app = create_app(settings)
        async with running(app) as client:
            model, first = await held(app, client)
            large = json.dumps({"texts": ["large " * 16_000]}).encode()
            requests = [post(client, "large " * 16_000) for _ in range(5)]
            packed, headers = gzip.compress(large), {"Content-Encoding": "gzip"}
            last = client.post("/classify", content=packed, headers=headers)
            requests.append(asyncio.create_task(last))
            async with asyncio.timeout(10):
                while app.state.body_budget._held_bytes < 180_000:
                    await asyncio.sleep(0.01)
            for path in ("/classify", "/classify/message"):
                reply = await client.post(path, content=large)
                assert (reply.status_code, reply.json()["code"]) == (429, "queue_full")
                assert reply.headers["retry-after"] == "1"
            small = post(client, "small")
            await asyncio.sleep(0.1)
            model.release_all()
            replies = await asyncio.gather(first, small, *requests)
            assert {reply.status_code for reply in replies} == {200}
            assert app.state.body_budget._held_bytes == 0
            assert (await client.post("/classify", content=large)).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "value",
    ["{}", "[]", "[0]", '{"": 0}', '{"":{}}', "[[[[[]]]]]", '"ab"', '"éé"', '"😀b"', "1.5", "9999"],
)
def test_the_values_of_a_body_count_with_the_memory_that_they_take(
    save_tiny: Callable[..., Path], value: str
) -> None:
    async def scenario() -> int:
        app = create_app(make_settings(save_tiny()))
        async with running(app) as client:
            model, first = await held(app, client)
            packed, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
            large = asyncio.create_task(client.post("/classify", content=packed, headers=headers))
            while app.state.service._pending_texts < 2:
                await asyncio.sleep(0.01)
            num_bytes: int = app.state.body_budget._held_bytes
            model.release_all()
            assert {(await task).status_code for task in (first, large)} == {200}
            assert app.state.body_budget._held_bytes == 0
            return num_bytes

    body = f'{{"texts": ["a"], "x": [{",".join([value] * 15_000)}]}}'.encode()
    tracemalloc.start()
    parsed = json.loads(body)
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(parsed["x"]) == 15_000
    assert asyncio.run(scenario()) + 65_536 >= memory


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"texts": ["a"], "x": [' + "{}," * 50_100 + "0]}", 413),
        ('{"texts": ["a"], "x": [' + '"",' * 100_100 + "0]}", 413),
        ('{"texts": ["a' + r"\\" + '"], "x": [' + "{}," * 50_100 + "0]}", 413),
        ('{"texts": ["' + "{,:[" * 30_000 + '"]}', 200),
        (json.dumps({"texts": ['"{"' * 60_000, "\\" * 99_999 + "{,:[" * 30_000, '\\"']}), 200),
    ],
    ids=["objects", "texts", "behind an escape", "marks in a text", "escapes in a text"],
)
def test_no_more_values_are_read_than_any_request_needs(
    save_tiny: Callable[..., Path], body: str, status: int
) -> None:
    async def scenario() -> httpx.Response:
        app = create_app(make_settings(save_tiny(), max_texts=10))
        async with running(app) as client:
            replace_model(app, FakeModel())
            return await client.post("/classify", content=body)

    reply = asyncio.run(scenario())
    assert reply.status_code == status
    assert status == 200 or "more than 100010 brackets" in reply.json()["detail"]


def test_an_idle_service_has_room_for_any_body_that_is_allowed(
    save_tiny: Callable[..., Path],
) -> None:
    async def scenario() -> int:
        app = create_app(make_settings(save_tiny(), max_pending_bytes=1024, max_body_bytes=200_000))
        async with running(app) as client:
            replace_model(app, FakeModel())
            return (await client.post("/classify", content=body)).status_code

    body = '{"texts": ["a"], "x": [' + "{}," * 49_000 + "0]}"
    assert asyncio.run(scenario()) == 200
