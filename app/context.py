"""What surrounds every request: its id, its access key, its log line, its count, its last resort.

A plain ASGI wrapper, so that nothing is answered outside of it: neither a 404 nor a defect.
"""

import asyncio
import logging
import random
import re
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access import AccessKeys, admit_with
from app.bodies import BodyBudget
from app.errors import INTERNAL_ERROR, INVALID_HTTP, AccessDenied, NotReady
from app.metrics import Metrics
from app.page import PATHS as PAGE_PATHS
from app.problems import REFUSED_KEY, SCOPE_KEY, problem_response, service_problem

PROBES = ("/livez", "/readyz", "/health")
"""Open without a key."""

_DOCS = ("/docs", "/openapi.json", "/static-offline-docs/")
"""Open without a key: a browser brings one only once the page has asked for it."""

_REQUEST_ID = re.compile(r"[\w.:+/=-]{1,128}", re.ASCII)
_log = logging.getLogger("spamgate")


@dataclass
class Context:
    """What is known of the request under way.

    Attributes:
        request_id: the client's, where it sent a usable one, else a new one.
        status: of the reply; 0 before there is one.
        outcome: code of the problem that was answered, if any.
        num_texts: that the request holds.
        held_bytes: of its body, compressed and decompressed, and of its values; see ``BodyBudget``.
        begin: ``time.perf_counter()`` when it came.
    """

    request_id: str
    status: int = 0
    outcome: str | None = None
    num_texts: int = 0
    held_bytes: int = 0
    begin: float = field(default_factory=time.perf_counter)


class RequestContext:
    """Wraps an ASGI application as described above."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        keys: AccessKeys,
        own_keys: dict[str, SecretStr | None],
        body_budget: BodyBudget,
    ) -> None:
        self._app = app
        self._own_keys = own_keys
        self._body_budget = body_budget
        self._metrics = metrics
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # answered as GET is; the server leaves the body out
            scope = dict(scope, method="GET")
        context = scope[SCOPE_KEY] = Context(_request_id(Request(scope)))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"].append((b"x-request-id", context.request_id.encode()))
            await send(message)

        try:
            await self._answer(scope, receive, send_with_id, context)
        finally:
            self._body_budget.release(context.held_bytes)
            if told := scope.get(REFUSED_KEY):
                context.request_id, context.status, context.outcome = told, 400, INVALID_HTTP
            if not _is_beside(scope["path"], context):
                self._finish(method, scope, context)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        request, path = Request(scope, receive), scope["path"]
        try:
            self._admit(request, path)
            await self._app(scope, receive, send)
        except AccessDenied as error:
            await service_problem(request, error)(scope, receive, send)
        except asyncio.CancelledError:  # by the server, whose time to drain is over
            if context.status:
                raise
            late = NotReady("The service has ended. Ask another instance.", retry_after_seconds=1)
            await service_problem(request, late)(scope, receive, send)
        except Exception as error:
            _log.error("defect", extra=_where(error) | {"request_id": context.request_id})
            if not context.status:
                reply = problem_response(
                    request, INTERNAL_ERROR, "A defect of the service, not of the request."
                )
                await reply(scope, receive, send)

    def _admit(self, request: Request, path: str) -> None:
        """Before anything of the body is read: that is what others could fill the memory with."""
        for prefix, key in self._own_keys.items():
            if path.startswith(prefix):
                if key:  # else there is nothing at this path
                    admit_with(request, key, prefix.strip("/"))
                return
        if not (path in (*PROBES, *PAGE_PATHS) or path.startswith(_DOCS)):
            self._keys.admit(request)

    def _finish(self, method: str, scope: Scope, context: Context) -> None:
        seconds = time.perf_counter() - context.begin
        outcome = context.outcome or ("ok" if 200 <= context.status < 400 else "error")
        self._metrics.count_request(outcome, seconds)
        if _log.isEnabledFor(logging.INFO):
            route = scope.get("route")
            fields = {
                "request_id": context.request_id,
                "method": method,
                "route": getattr(route, "path", None),
                "status": context.status,
                "outcome": outcome,
                "texts": context.num_texts,
                "ms": round(1000 * seconds, 2),
            }
            _log.info("request", extra=fields)


def _is_beside(path: str, context: Context) -> bool:
    """Whether a request is neither counted nor logged: probes never are, scrapes and pages only
    where they fail."""
    is_well = context.status < 400 and not context.outcome
    is_page = path in ("/metrics", *PAGE_PATHS) or path.startswith(_DOCS)
    return path in PROBES or (is_page and is_well)


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    # It need not be hard to guess, and asking the system for each would be a call of its own.
    return given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"


def _where(error: Exception) -> dict[str, object]:
    """Type and place of an error. Not its message: that may hold text of the request."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
    return {"error": type(error).__name__, "at": places}
