"""One function per endpoint: the request's parts in, the body of the reply out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.bodies import JSONRoute
from app.errors import BodyTooLarge, InferenceFailed, MalformedBody, NotReady, TooManyTexts
from app.problems import error_responses
from app.schemas import ClassifyRequest, ClassifyResponse, HealthResponse, Result
from app.service import Service

router = APIRouter(route_class=JSONRoute, strict_content_type=False)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(_service)]


@router.post(
    "/classify",
    summary="Classify texts",
    responses=error_responses(MalformedBody, BodyTooLarge, TooManyTexts, NotReady, InferenceFailed),
)
async def classify(body: ClassifyRequest, service: TheService) -> ClassifyResponse:
    """The probabilities of ham and spam for each text."""
    verdicts = await service.classify(body.texts)
    return ClassifyResponse.model_construct(
        model=verdicts.model, results=[Result.of(p) for p in verdicts.predictions]
    )


@router.get(
    "/health",
    summary="Whether texts can be classified now",
    responses={503: {"model": HealthResponse, "description": "Not now: see `status`."}},
)
async def health(service: TheService, response: Response) -> HealthResponse:
    """200 where the service can classify, 503 while it loads or after it failed."""
    classifier = service.classifier
    if classifier is None:
        response.status_code = 503
        return HealthResponse(
            status="failed" if service.failure else "loading",
            uptime_seconds=service.uptime_seconds,
        )
    return HealthResponse(
        status="ok",
        model=classifier.name,
        device=str(classifier.device),
        dtype=str(classifier.dtype).removeprefix("torch."),
        uptime_seconds=service.uptime_seconds,
    )
