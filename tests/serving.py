"""The service inside a test: its lifespan run, its model loaded, a client in front. No sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI

from app.main import create_app
from app.model_thread import Predict
from app.settings import Settings
from tests.fake_model import FakeModel


def make_settings(checkpoint: Path, **values: object) -> Settings:
    """Settings for a tiny checkpoint on the CPU, whatever the environment says."""
    return Settings(checkpoint=str(checkpoint), **{"device": "cpu", "dtype": "float32", **values})  # type: ignore[arg-type]


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app once its model is loaded."""
    # raise_app_exceptions: a server would answer 500 and log, and so shall the test see it.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.state.loading
        yield client


def replace_model(app: FastAPI, model: Predict) -> None:
    """Puts a fake in place of the loaded model, from the next batch on."""
    app.state.service.engine.batcher._thread._predict = model


@asynccontextmanager
async def serving(checkpoint: Path, **values: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with this checkpoint."""
    async with running(create_app(make_settings(checkpoint, **values))) as client:
        yield client


def post(client: httpx.AsyncClient, *texts: str, timeout_ms: int | None = None):
    """Sends texts to be classified; a task, of which the result is the reply."""
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
