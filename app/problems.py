"""Errors as application/problem+json replies (RFC 9457), without a word of the request in them."""

import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.errors import INVALID_REQUEST, PROBLEMS, AccessDenied, ClientGone, Problem, ServiceError
from app.schemas import ProblemResponse

SCOPE_KEY = "spamgate.context"
"""Where the scope of a request holds its ``Context``."""

REFUSED_KEY = "spamgate.refused"
"""Where the scope of a request that broke off in its body holds the id that its client was told."""

PROBLEM_SCHEMA = ProblemResponse.__name__
"""Under which the OpenAPI document has the form of errors."""

_SHOWN_ERRORS = 3
_JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null or nothing",
}


_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds until a new attempt has a chance, where waiting helps.",
        "schema": {"type": "integer"},
    }
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


class ProblemJSON(JSONResponse):
    """A reply of the media type that says it is an error."""

    media_type = "application/problem+json"


def problem_response(
    request: Request, problem: Problem, detail: str, *, retry_after_seconds: float | None = None
) -> ProblemJSON:
    """The reply to an error; the context of the request takes note of its code."""
    context = request.scope[SCOPE_KEY]
    context.outcome = problem.code
    body = ProblemResponse(
        title=problem.title,
        status=problem.status,
        detail=detail,
        code=problem.code,
        request_id=context.request_id,
    )
    headers = {}
    if retry_after_seconds is not None:
        body.retry_after_ms = max(1, round(1000 * retry_after_seconds))
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))
    return ProblemJSON(body.model_dump(exclude_none=True), problem.status, headers)


def service_problem(request: Request, error: ServiceError) -> ProblemJSON:
    """The reply to one of the service's own errors."""
    reply = problem_response(
        request,
        PROBLEMS[type(error)],
        error.detail,
        retry_after_seconds=error.retry_after_seconds,
    )
    if isinstance(error, AccessDenied):
        reply.headers["WWW-Authenticate"] = "Bearer"
    return reply


def install_error_handlers(app: FastAPI) -> None:
    """Makes every error that a request can cause a problem+json reply."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(ClientDisconnect, _on_client_disconnect)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


def error_responses(
    *errors: type[ServiceError], takes_input: bool = True
) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its OpenAPI entry, by status.

    Args:
        errors: its own.
        takes_input: whether a body, a header or a parameter could be of the wrong form.
    """
    problems = [PROBLEMS[error] for error in errors] + [INVALID_REQUEST] * takes_input
    return {
        status: {
            "description": "; ".join(
                f"{p.title} (`{p.code}`)" for p in problems if p.status == status
            ),
            # Not as "model", which FastAPI would list under application/json as well.
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}
                }
            },
            "headers": _HEADERS.get(status, {}),
        }
        for status in sorted({p.status for p in problems})
    }


async def _on_service_error(request: Request, error: Exception) -> ProblemJSON:
    assert isinstance(error, ServiceError)
    return service_problem(request, error)


async def _on_client_disconnect(request: Request, error: Exception) -> ProblemJSON:
    return service_problem(request, ClientGone("The client closed the connection."))


async def _on_invalid_request(request: Request, error: Exception) -> ProblemJSON:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    described = [
        f"{'.'.join(map(str, _place(e)))}: {e['msg']}, "
        f"{_JSON_NAMES.get(type(e.get('input')), 'something else')} came"
        for e in errors[:_SHOWN_ERRORS]
    ]
    if len(errors) > _SHOWN_ERRORS:
        described.append(f"and {len(errors) - _SHOWN_ERRORS} more")
    detail = f"{'; '.join(described)}. See /docs for the form."
    return problem_response(request, INVALID_REQUEST, detail)


def _place(error: dict[str, Any]) -> Sequence[str | int]:
    """Where in a body it is wrong; what a key that no form has is called is the client's text."""
    place: Sequence[str | int] = error["loc"]
    return (*place[:-1], "(another key)") if error.get("type") == "extra_forbidden" else place


async def _on_http_exception(request: Request, error: Exception) -> ProblemJSON:
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, error.detail.lower().replace(" ", "_"), error.detail)
    detail = f"{request.method} is not answered at this path. See /docs for what is."
    reply = problem_response(request, problem, detail)
    reply.headers.update(error.headers or {})
    return reply
