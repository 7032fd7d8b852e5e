"""create_app: settings in, ASGI application out."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import SecretStr

from app.access import AccessKeys
from app.bodies import BodyBudget
from app.context import PROBES, RequestContext
from app.feedback import FeedbackStore
from app.feedback import router as feedback
from app.front_doors import router as front_doors
from app.mail import router as mail
from app.page import router as page
from app.problems import PROBLEM_SCHEMA, install_error_handlers
from app.routes import admin, router
from app.schemas import ProblemResponse
from app.service import MODEL_FAILED, Service
from app.settings import Settings
from app.workers import is_orphan, is_worker, tell_parent

_PUBLISH_SECONDS = 1.0
# For traces and for metrics. OpenTelemetry's own ten, where nobody takes them, are more than a
# service has to end in.
_TELEMETRY_SECONDS = "2"
_DESCRIPTION = """Tells ham from spam with GPT-2. Errors are `application/problem+json`.

Bodies may be compressed (`Content-Encoding`: gzip, deflate or zstd). Each reply has an
`X-Request-ID`, the one that the request brings along where it is usable."""


async def _work_beside_others(service: Service, exit_process: Callable[[int], None]) -> None:
    """Keeps the gauges true for whichever worker is asked for the metrics of all, tells the process
    that started this one that it serves, and ends it where that process is gone."""
    while not is_orphan():
        service.publish_state()
        tell_parent()
        await asyncio.sleep(_PUBLISH_SECONDS)
    exit_process(MODEL_FAILED)


@asynccontextmanager
async def _lifespan(
    service: Service, exit_process: Callable[[int], None], app: FastAPI
) -> AsyncIterator[None]:
    # In the background: probes are answered while the model is loaded.
    tasks = [asyncio.create_task(service.load())]
    if is_worker():
        # Another worker may have a model already, so none takes a connection without.
        await tasks[0]
        tasks.append(asyncio.create_task(_work_beside_others(service, exit_process)))
    app.state.loading = tasks[0]
    yield
    for task in tasks:
        task.cancel()
    await service.close()
    if hasattr(app.state, "feedback"):
        app.state.feedback.close()


def _complete_document(app: FastAPI) -> None:
    """Adds what the routes' errors refer to, and takes off keys where none are asked for."""
    document_of_routes = app.openapi

    def document() -> dict[str, Any]:
        found = document_of_routes()
        found["components"]["schemas"][PROBLEM_SCHEMA] = ProblemResponse.model_json_schema()
        for path in PROBES:
            found["paths"][path]["get"].pop("security", None)
        return found

    app.openapi = document  # type: ignore[method-assign]


def _telemetry(is_on: bool) -> dict[str, Any]:
    """What FastAPI is told of OpenTelemetry; where it is on, names the service to that."""
    if is_on:
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _TELEMETRY_SECONDS)
        if "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            os.environ.setdefault("OTEL_SERVICE_NAME", "spamgate")
    # Its logs would repeat what exceptions say, its traces who reported a message.
    return {
        "logs": False,
        "auto_configure": is_on,
        "exclude": lambda scope: "feedback" in scope.get("path", ""),  # a slash too many, too
    }


def create_app(
    settings: Settings, exit_process: Callable[[int], None] = lambda code: None
) -> FastAPI:
    """The service as an ASGI application; it loads its model when its lifespan starts.

    Args:
        settings: see there.
        exit_process: is called with an exit code when the service can never work.

    Raises:
        KeysError: the file of access keys cannot be used.
    """
    keys = AccessKeys(settings.api_keys_file)
    service = Service(settings, exit_process)

    app: FastAPI = FastAPIOffline(
        title="spamgate",
        version=version("spamgate"),
        description=_DESCRIPTION,
        docs_url=None,  # app.page has one of its own, which takes these files
        redoc_url=None,
        servers=[{"url": "."}],  # where the document is, be it below a path
        # Clients do not follow a redirection of what they POST, and would take it for no verdict.
        redirect_slashes=False,
        lifespan=partial(_lifespan, service, exit_process),
        telemetry=_telemetry(settings.telemetry),
    )
    app.state.service = service
    app.state.keys = keys
    budget = app.state.body_budget = BodyBudget(settings)
    # For the button "Authorize" of the docs page alone: RequestContext does the checking.
    schemes = [
        Depends(HTTPBearer(auto_error=False)),
        Depends(APIKeyHeader(name="X-API-Key", auto_error=False)),
    ]
    for doors in (router, mail, front_doors):
        app.include_router(doors, dependencies=schemes if keys else [])
    app.include_router(page)
    # Paths that ask for a key of their own instead of an access key.
    own_keys: dict[str, SecretStr | None] = {"/feedback": None, "/admin/": settings.admin_key}
    if settings.feedback_key and settings.feedback_file:
        own_keys["/feedback"] = settings.feedback_key
        app.state.feedback = FeedbackStore(settings.feedback_file, settings.feedback_bytes)
        app.include_router(feedback, dependencies=schemes)
    if settings.admin_key:
        app.include_router(admin, dependencies=schemes)
    install_error_handlers(app)
    app.add_middleware(
        RequestContext,
        metrics=service.metrics,
        keys=keys,
        own_keys=own_keys,
        body_budget=budget,
    )
    _complete_document(app)
    return app
