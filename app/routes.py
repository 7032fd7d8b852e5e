"""One function per endpoint: the request's parts in, the body of the reply out."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import PlainTextResponse

from app.bodies import JSONRoute
from app.errors import (
    AccessDenied,
    BodyTooLarge,
    ClientGone,
    DeadlineExpired,
    InferenceFailed,
    MalformedBody,
    NotReady,
    QueueFull,
    ReloadFailed,
    TooManyTexts,
    UnknownEncoding,
    WouldExpire,
)
from app.problems import SCOPE_KEY, error_responses
from app.schemas import (
    ClassifyRequest,
    ClassifyResponse,
    HealthResponse,
    InfoResponse,
    ReloadRequest,
    ReloadResponse,
    Result,
)
from app.service import Service, Verdicts
from model.gpt2 import LABELS

router = APIRouter(route_class=JSONRoute, strict_content_type=False)


# A coroutine: FastAPI hands plain functions to a thread, which costs more than the rest.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(_service)]

_WATCH_AFTER_SECONDS = 0.01

TimeoutMs = Annotated[
    int | None,
    Header(
        alias="X-Timeout-Ms",
        ge=1,
        le=3_600_000,
        description="How long the caller waits. Where the queue is longer, the answer is 503 at "
        "once; where the time runs out, 504, and nothing is computed any more.",
    ),
]


CLASSIFY_ERRORS = error_responses(
    MalformedBody,
    AccessDenied,
    BodyTooLarge,
    UnknownEncoding,
    TooManyTexts,
    QueueFull,
    InferenceFailed,
    NotReady,
    WouldExpire,
    DeadlineExpired,
)
"""Of every route that classifies."""


@router.post("/classify", summary="Classify texts", responses=CLASSIFY_ERRORS)
async def classify(
    body: ClassifyRequest, request: Request, service: TheService, timeout_ms: TimeoutMs = None
) -> ClassifyResponse:
    """The probabilities of ham and spam for each text."""
    verdicts = await classify_texts(request, service, body.texts, timeout_ms)
    return ClassifyResponse.model_construct(
        model=verdicts.model, results=[Result.of(p) for p in verdicts.predictions]
    )


async def classify_texts(
    request: Request, service: Service, texts: list[str], timeout_ms: int | None
) -> Verdicts:
    """The verdicts on the texts of a request, given up where its client closes the connection."""
    request.scope[SCOPE_KEY].num_texts = len(texts)
    async with ended_by_disconnect(request):
        return await service.classify(texts, timeout_ms and timeout_ms / 1000)


@asynccontextmanager
async def ended_by_disconnect(request: Request) -> AsyncIterator[None]:
    """Ends the block when the client closes the connection: what waits for it need not be computed.

    Raises:
        ClientGone: that happened.
    """
    task = asyncio.current_task()
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task:
            task.cancel()

    def start() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    # Most answers are there before it would pay to watch.
    timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, start)
    try:
        yield
    except asyncio.CancelledError:
        if not gone or (task and task.uncancel()):
            raise
        raise ClientGone("The client closed the connection.") from None
    finally:
        timer.cancel()
        if watcher:
            watcher.cancel()


@router.get("/livez", summary="Whether the process lives")
async def livez() -> dict[str, str]:
    """Always 200: it asks nothing of the model."""
    return {"status": "ok"}


_NOT_NOW: dict[int | str, dict[str, Any]] = {
    503: {"model": HealthResponse, "description": "Not now: see `reason`."}
}


@router.get("/readyz", summary="Whether texts should be sent here", responses=_NOT_NOW)
@router.get("/health", summary="Whether texts can be classified now", responses=_NOT_NOW)
async def health(service: TheService, response: Response) -> HealthResponse:
    """200 where the model has computed something a moment ago and there is room in the queue; 503
    while it loads, fails or hangs, where the queue is full, and before the service ends."""
    problem = service.problem
    status: Literal["ok", "loading", "unavailable", "failed"] = "ok"
    if problem:
        response.status_code = 503
        status = "unavailable" if service.engine else "loading"
    if service.failure:
        status = "failed"
    answer = HealthResponse(
        status=status,
        reason=problem,
        uptime_seconds=service.uptime_seconds,
    )
    if service.engine:
        classifier = service.engine.classifier
        answer.model = classifier.name
        answer.device = str(classifier.device)
        answer.dtype = classifier.dtype_name
    return answer


@router.get(
    "/info",
    summary="The model and the limits",
    responses=error_responses(AccessDenied, NotReady, takes_input=False),
)
async def info(request: Request, service: TheService) -> InfoResponse:
    """What answers here, how it was made, and how much it takes."""
    if service.engine is None:
        raise NotReady("The model is still being loaded.", retry_after_seconds=1)
    classifier, settings = service.engine.classifier, service.settings
    return InfoResponse(
        model=classifier.name,
        labels=list(LABELS),
        device=str(classifier.device),
        dtype=classifier.dtype_name,
        threads=torch.get_num_threads(),
        max_tokens=classifier.max_tokens,
        max_texts=settings.max_texts,
        max_body_bytes=settings.max_body_bytes,
        max_batch_tokens=classifier.max_batch_tokens,
        max_queue_tokens=settings.max_queue_tokens,
        max_pending_texts=settings.max_pending_texts,
        timeout_seconds=settings.timeout_seconds,
        spam_prior=classifier.spam_prior,
        ham_below=service.engine.cutoffs.ham_below,
        spam_from=service.engine.cutoffs.spam_from,
        run=_as_text(classifier.run) or None,
        version=request.app.version,
    )


def _as_text(run: dict[str, Any]) -> dict[str, Any]:
    """The same without half surrogates, as names of data files have them that are not UTF-8."""
    text = json.dumps(run, ensure_ascii=False).encode("utf-8", "replace")
    found: dict[str, Any] = json.loads(text)
    return found


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses=error_responses(AccessDenied, takes_input=False),
)
async def metrics(service: TheService) -> Response:
    """Counts and times since the start, in the text format of Prometheus."""
    return Response(service.render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


admin = APIRouter(prefix="/admin", route_class=JSONRoute, strict_content_type=False)


@admin.post(
    "/reload",
    summary="Switch to a new checkpoint",
    responses=error_responses(
        AccessDenied,
        MalformedBody,
        BodyTooLarge,
        UnknownEncoding,
        QueueFull,
        ReloadFailed,
        NotReady,
    ),
)
async def reload(service: TheService, body: ReloadRequest | None = None) -> ReloadResponse:
    """Loads and proves a checkpoint beside the one in use, then switches between two batches. No
    request fails; where the new one is not fit, the old one stays."""
    if body and body.checkpoint == "":  # of a variable that is not set, say
        raise ReloadFailed("The checkpoint's name is empty: leave it out for the settings' own.")
    return ReloadResponse(model=await service.reload(body.checkpoint if body else None))


@admin.post(
    "/rollback",
    summary="Switch back to the checkpoint before",
    responses=error_responses(AccessDenied, ReloadFailed, NotReady, takes_input=False),
)
async def rollback(service: TheService) -> ReloadResponse:
    """Switches to the model that was in use before the last switch."""
    return ReloadResponse(model=await service.roll_back())
