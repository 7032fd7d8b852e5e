"""Bodies and headers nobody thought of: only documented replies, never an unhandled error."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.main import create_app
from tests.fake_model import FakeModel
from tests.serving import make_settings, replace_model

# Any string, half surrogates too, and any JSON.
TEXTS = st.text(st.characters(codec=None), max_size=200)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
BODIES = st.one_of(
    st.binary(max_size=500),
    VALUES.map(json.dumps).map(str.encode),
    st.lists(TEXTS, max_size=8).map(lambda texts: json.dumps({"texts": texts}).encode()),
    st.lists(VALUES, max_size=4).map(lambda texts: json.dumps({"texts": texts}).encode()),
    st.binary(max_size=200).map(
        lambda raw: b'{"texts": ["' + raw.replace(b'"', b"").replace(b"\\", b"") + b'"]}'
    ),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
        for name in ("content-type", "content-encoding", "x-timeout-ms", "x-request-id")
    },
)


class Bench:
    """A loaded service and an event loop that stays, so that an example costs one request."""

    def __init__(self, app: FastAPI) -> None:
        self._runner = asyncio.Runner()
        self._lifespan = app.router.lifespan_context(app)
        self._runner.run(self._lifespan.__aenter__())
        self._runner.run(self._loaded(app))
        transport = httpx.ASGITransport(app)  # what the app raises fails the test
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test")

    @staticmethod
    async def _loaded(app: FastAPI) -> None:
        await app.state.loading
        replace_model(app, FakeModel())

    def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        call = self._client.post("/classify", content=body, headers=headers)
        return self._runner.run(asyncio.wait_for(call, 10))

    def close(self) -> None:
        self._runner.run(self._lifespan.__aexit__(None, None, None))
        self._runner.close()


@pytest.fixture
def bench(save_tiny: Callable[..., Path]) -> Iterator[Bench]:
    bench = Bench(create_app(make_settings(save_tiny(), max_body_bytes=2000)))
    yield bench
    bench.close()


def check(reply: httpx.Response, body: bytes, headers: dict[str, str]) -> None:
    assert reply.status_code in (200, 400, 413, 415, 422, 500, 503, 504), reply.text
    if reply.status_code == 200:
        sent = json.loads(body.decode(errors="replace"), strict=False)
        assert len(reply.json()["results"]) == len(sent["texts"])
        return
    problem = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["status"] == reply.status_code
    assert problem["code"] != "internal_error"
    # 5xx only where FakeModel was given its poison, or the deadline was too short.
    if reply.status_code == 500:
        assert problem["code"] == "inference_failed"
    if reply.status_code in (503, 504):
        assert "x-timeout-ms" in headers


def run_examples(bench: Bench, number: int) -> None:
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(BODIES, HEADERS)
    def every_body_gets_a_documented_reply(body: bytes, headers: dict[str, str]) -> None:
        check(bench.post(body, headers), body, headers)

    every_body_gets_a_documented_reply()


# The token "0" ends FakeModel's thread, and pytest would make a warning of it.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@dies
def test_any_body_gets_a_documented_reply(bench: Bench) -> None:
    run_examples(bench, 200)


@dies
@pytest.mark.slow
def test_any_of_20000_bodies_gets_a_documented_reply(bench: Bench) -> None:
    run_examples(bench, 20_000)
