"""What can go wrong with a request, as exceptions, and the one table that gives each its status.

    ServiceError
      MalformedBody        the body is not JSON
      BodyTooLarge
      TooManyTexts
      NotReady             the model is loading or has failed
      InferenceFailed      the model could not compute this text

No message here ever holds text that a client sent.
"""

from typing import NamedTuple


class ServiceError(Exception):
    """A request that cannot be answered.

    Args:
        detail: one or two sentences: what came, what is allowed, what to do.
        retry_after_seconds: when a new attempt has a chance, where waiting helps.
    """

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class MalformedBody(ServiceError):
    """The body is not JSON."""


class BodyTooLarge(ServiceError):
    """The body has more bytes than the service reads."""


class TooManyTexts(ServiceError):
    """One request holds more texts than allowed."""


class NotReady(ServiceError):
    """The model is loading or has failed."""


class InferenceFailed(ServiceError):
    """The model could not compute this text."""


class Problem(NamedTuple):
    """How an error looks over HTTP: its status, its code for programs, its title for people."""

    status: int
    code: str
    title: str


PROBLEMS: dict[type[ServiceError], Problem] = {
    MalformedBody: Problem(400, "malformed_body", "The body is not JSON"),
    BodyTooLarge: Problem(413, "body_too_large", "The body is too large"),
    TooManyTexts: Problem(422, "too_many_texts", "Too many texts in one request"),
    NotReady: Problem(503, "not_ready", "The service cannot classify now"),
    InferenceFailed: Problem(500, "inference_failed", "The model failed on this text"),
}

# The same for what the web framework finds by itself.
INVALID_REQUEST = Problem(422, "invalid_request", "The request is not valid")
INTERNAL_ERROR = Problem(500, "internal_error", "The service has a defect")
