"""Errors as application/problem+json replies (RFC 9457), without a word of the request in them."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import INTERNAL_ERROR, INVALID_REQUEST, PROBLEMS, Problem, ServiceError
from app.schemas import ProblemResponse

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


class ProblemJSON(JSONResponse):
    """A reply of the media type that says it is an error."""

    media_type = "application/problem+json"


def problem_response(problem: Problem, detail: str, **headers: str) -> ProblemJSON:
    """The reply to an error."""
    body = ProblemResponse(
        title=problem.title, status=problem.status, detail=detail, code=problem.code
    )
    return ProblemJSON(body.model_dump(), problem.status, headers=headers)


def install_error_handlers(app: FastAPI) -> None:
    """Makes every error of the app a problem+json reply."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_defect)


def error_responses(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its OpenAPI entry, by status."""
    problems = [PROBLEMS[error] for error in errors] + [INVALID_REQUEST]
    return {
        status: {
            "description": "; ".join(
                f"{p.title} (`{p.code}`)" for p in problems if p.status == status
            ),
            "model": ProblemResponse,
            "content": {"application/problem+json": {}},
        }
        for status in sorted({p.status for p in problems})
    }


async def _on_service_error(request: Request, error: Exception) -> ProblemJSON:
    assert isinstance(error, ServiceError)
    return problem_response(PROBLEMS[type(error)], error.detail)


async def _on_invalid_request(request: Request, error: Exception) -> ProblemJSON:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    described = [
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}, "
        f"{_JSON_NAMES.get(type(e.get('input')), 'something else')} came"
        for e in errors[:_SHOWN_ERRORS]
    ]
    if len(errors) > _SHOWN_ERRORS:
        described.append(f"and {len(errors) - _SHOWN_ERRORS} more")
    return problem_response(INVALID_REQUEST, f"{'; '.join(described)}. See /docs for the form.")


async def _on_http_exception(request: Request, error: Exception) -> ProblemJSON:
    assert isinstance(error, HTTPException)
    code = error.detail.lower().replace(" ", "_")
    detail = f"{request.method} is not answered at this path. See /docs for what is."
    problem = Problem(error.status_code, code, error.detail)
    return problem_response(problem, detail, **(error.headers or {}))


async def _on_defect(request: Request, error: Exception) -> ProblemJSON:
    return problem_response(INTERNAL_ERROR, "This is a defect of the service, not of the request.")
