"""What can go wrong with a request, as exceptions, and the one table that gives each its status.

    ServiceError
      MalformedBody        the body is not JSON, or not of the form that is asked for
      UnknownEncoding      the body is compressed in a way that is not read here, or in a form
      BodyTooLarge         before or after decompression, or of too many values
      TooManyTexts         in one request
      AccessDenied         no key, or a wrong one
      NotExplained         the service has no keys, and the caller sits elsewhere
      NotReady             the model is loading or has failed, or the service is ending
      QueueFull            too much waits for the model already
      WouldExpire          the queue is longer than the caller can wait
      DeadlineExpired      the caller's time is over
      InferenceFailed      the model could not compute this text
      ReloadFailed         the new checkpoint is not fit; the old one goes on
      FeedbackFull         there is no room for more labels
      FeedbackBusy         another program holds the file of labels, or its disk fails
      ClientGone           nobody waits for the answer

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
    """The body is not JSON, or not of the form that is asked for."""


class UnknownEncoding(ServiceError):
    """The body is compressed in a way that is not read here, or in a form."""


class BodyTooLarge(ServiceError):
    """The body has more bytes, or values, than the service reads."""


class TooManyTexts(ServiceError):
    """One request holds more texts than allowed."""


class AccessDenied(ServiceError):
    """No access key came, or a wrong one."""


class NotExplained(ServiceError):
    """The service has no access keys, and would repeat the text to anybody."""


class NotReady(ServiceError):
    """The model is loading or has failed, or the service is ending."""


class QueueFull(ServiceError):
    """Too much waits for the model already.

    Attributes:
        excess_tokens: of those that wait, how many must be read before there is room.
    """

    excess_tokens = 0


class WouldExpire(ServiceError):
    """The queue is longer than the caller can wait."""


class DeadlineExpired(ServiceError):
    """The caller's time is over."""


class InferenceFailed(ServiceError):
    """The model could not compute this text."""


class ReloadFailed(ServiceError):
    """The new checkpoint is not fit to serve; the old one goes on."""


class FeedbackFull(ServiceError):
    """The file of feedback has its largest size."""


class FeedbackBusy(ServiceError):
    """Another program holds the file of feedback, or its disk fails."""


class ClientGone(ServiceError):
    """The client has closed the connection: nobody reads the answer."""


class Problem(NamedTuple):
    """How an error looks over HTTP: its status, its code for programs, its title for people."""

    status: int
    code: str
    title: str


PROBLEMS: dict[type[ServiceError], Problem] = {
    MalformedBody: Problem(400, "malformed_body", "The body is not as it should be"),
    UnknownEncoding: Problem(
        415, "unknown_encoding", "The body is in a form that is not read here"
    ),
    BodyTooLarge: Problem(413, "body_too_large", "The body is too large"),
    TooManyTexts: Problem(422, "too_many_texts", "Too many texts in one request"),
    AccessDenied: Problem(401, "access_denied", "An access key is needed"),
    NotExplained: Problem(403, "not_explained", "Nothing is explained to others here"),
    NotReady: Problem(503, "not_ready", "The service cannot classify now"),
    QueueFull: Problem(429, "queue_full", "Too much is waiting already"),
    WouldExpire: Problem(503, "would_expire", "The verdict would come too late"),
    DeadlineExpired: Problem(504, "deadline_expired", "The verdict did not come in time"),
    InferenceFailed: Problem(500, "inference_failed", "The model failed on this text"),
    ReloadFailed: Problem(409, "reload_failed", "The checkpoint was not switched"),
    FeedbackFull: Problem(507, "feedback_full", "There is no room for more feedback"),
    FeedbackBusy: Problem(503, "feedback_busy", "Feedback cannot be kept now"),
    ClientGone: Problem(499, "client_gone", "The client has gone"),
}

INVALID_HTTP = "invalid_http"
"""The code of what is refused before it is a request."""

# The same for what the web framework finds by itself.
INVALID_REQUEST = Problem(422, "invalid_request", "The request is not valid")
INTERNAL_ERROR = Problem(500, "internal_error", "The service has a defect")
