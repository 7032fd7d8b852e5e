"""create_app: settings in, ASGI application out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app.problems import install_error_handlers
from app.routes import router
from app.service import Service
from app.settings import Settings

_DESCRIPTION = "Tells ham from spam with GPT-2. Errors are `application/problem+json`."


def create_app(
    settings: Settings, exit_process: Callable[[int], None] = lambda code: None
) -> FastAPI:
    """The service as an ASGI application; it loads its model when its lifespan starts.

    Args:
        settings: see there.
        exit_process: is called with an exit code when the service can never work.
    """
    service = Service(settings, exit_process)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # In the background: probes are answered while the model is loaded.
        loading = asyncio.create_task(service.load())
        app.state.loading = loading
        yield
        loading.cancel()
        await service.close()

    app: FastAPI = FastAPIOffline(
        title="spamgate",
        version=version("spamgate"),
        description=_DESCRIPTION,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(router)
    install_error_handlers(app)
    return app
