"""Raw messages in, verdicts out: POST /classify/message, and what the other front doors share."""

import binascii
import contextlib
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError

from app.bodies import BodyBudget, decompressor_for, read_json, unpack_undeclared
from app.decision import Decision, score_of
from app.errors import (
    DeadlineExpired,
    InferenceFailed,
    MalformedBody,
    NotExplained,
    NotReady,
    QueueFull,
    UnknownEncoding,
    WouldExpire,
)
from app.problems import SCOPE_KEY, error_responses
from app.routes import CLASSIFY_ERRORS, TheService, TimeoutMs, ended_by_disconnect
from app.schemas import Explanation, MessageResponse, MessageResult, Result, Span
from app.service import Service
from model.mail import MailText
from model.prediction import Prediction


@dataclass(frozen=True)
class MailVerdict:
    """What was read of a message and what came of it.

    Attributes:
        model: the name of the model.
        mail: the text that was read.
        prediction: on all of it.
        windows: parts of the text that went through the model.
        score: weight * (2 * P(spam) - 1).
        required_score: the score from which on it is spam.
        decision: by the cut-offs.
    """

    model: str
    mail: MailText
    prediction: Prediction
    windows: int
    score: float
    required_score: float
    decision: Decision


def result_of(verdict: MailVerdict) -> MessageResult:
    """The verdict as a reply shows it."""
    mail = verdict.mail
    return MessageResult(
        **vars(Result.of(verdict.prediction)),
        decision=verdict.decision,
        score=verdict.score,
        parts=list(mail.parts),
        charset=mail.charset,
        characters=len(mail.text),
        windows=verdict.windows,
    )


router = APIRouter()

# Any type but JSON is taken; clients made from the document know the second one.
MAIL_CONTENT = dict.fromkeys(
    ("message/rfc822", "application/octet-stream"),
    {"schema": {"type": "string", "format": "binary"}},
)
"""A raw message as a body, for the OpenAPI document."""

_HAM_BELOW = "P(spam) below which the decision is ham; the checkpoint's where none is given."
_SPAM_FROM = "P(spam) from which on the decision is spam; the checkpoint's where none is given."
_WEIGHT = "The score is weight * (2 * P(spam) - 1); SPAMGATE_SCORE_WEIGHT where none is given."

_BLANKS = b" \t\n\r\f\v"

_BODY = {
    "required": True,
    "content": {
        **MAIL_CONTENT,
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["messages"],
                "properties": {
                    "messages": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "contentEncoding": "base64"},
                    }
                },
                # "Subject: Hello", an empty line, "You are a winner".
                "examples": [{"messages": ["U3ViamVjdDogSGVsbG8KCllvdSBhcmUgYSB3aW5uZXIK"]}],
            }
        },
    },
}


@router.post(
    "/classify/message",
    summary="Classify raw mail messages",
    responses=CLASSIFY_ERRORS | error_responses(NotExplained, takes_input=False),
    response_model_exclude_none=True,
    openapi_extra={"requestBody": _BODY},
)
async def classify_message(
    request: Request,
    service: TheService,
    timeout_ms: TimeoutMs = None,
    ham_below: Annotated[float | None, Query(ge=0, le=1, description=_HAM_BELOW)] = None,
    spam_from: Annotated[float | None, Query(ge=0, le=1, description=_SPAM_FROM)] = None,
    weight: Annotated[float | None, Query(gt=0, le=1000, description=_WEIGHT)] = None,
    explain: Annotated[bool, Query(description="Say which words moved the verdict.")] = False,
) -> MessageResponse:
    """The verdict on one message, or on a JSON list of messages in base64. There is one whatever a
    message holds: what cannot be decoded is read as well as it can be, what is too long is cut."""
    _refuse_mistaken(ham_below, spam_from)
    if explain:
        _refuse_strangers(request, service)
    if is_json(request):
        raws, is_cut = _messages_in(await read_json(request)), False
    else:
        body, is_cut = await read_message(request)
        raws = [body]
    begin = time.monotonic()
    verdicts = await classify_mails(
        request,
        service,
        raws,
        timeout_ms=timeout_ms,
        ham_below=ham_below,
        spam_from=spam_from,
        weight=weight,
        is_cut=is_cut,
    )
    results = [result_of(verdict) for verdict in verdicts]
    if explain and len(results) == 1:
        timeout_seconds = timeout_ms / 1000 if timeout_ms else service.settings.timeout_seconds
        left = timeout_seconds - (time.monotonic() - begin)
        # The verdict stands; for why there may be no room, no time, or no memory for so much.
        with contextlib.suppress(
            QueueFull, WouldExpire, DeadlineExpired, InferenceFailed, NotReady
        ):
            results[0].explanation = await _explain(request, service, verdicts[0].mail, left)
    return MessageResponse(model=verdicts[0].model, results=results)


def _refuse_mistaken(ham_below: float | None, spam_from: float | None) -> None:
    """Refuses two that a caller has mistaken for each other, before anything is computed: whatever
    those of the checkpoint are."""
    if ham_below is not None and spam_from is not None and ham_below > spam_from:
        wrong = {"loc": ("query", "ham_below"), "msg": "It is above spam_from", "input": ham_below}
        raise RequestValidationError([wrong])


def _refuse_strangers(request: Request, service: Service) -> None:
    """Refuses to explain but to callers that have shown a key, or sit at this machine: the reply
    holds the text."""
    if not service.settings.api_keys_file and not _is_local(request):
        raise NotExplained(
            "An explanation repeats the text: without access keys this service gives none but to "
            "callers on its own machine. Ask without explain."
        )


async def classify_mails(
    request: Request,
    service: Service,
    raws: list[bytes],
    *,
    timeout_ms: int | None = None,
    ham_below: float | None = None,
    spam_from: float | None = None,
    weight: float | None = None,
    is_cut: bool = False,
) -> list[MailVerdict]:
    """Verdicts on raw messages, whose end was left off if ``is_cut``; the settings and the
    checkpoint say what the caller does not.

    Raises:
        ServiceError: as for ``Service.classify_messages``.
    """
    request.scope[SCOPE_KEY].num_texts = len(raws)
    async with ended_by_disconnect(request):
        timeout_seconds = timeout_ms and timeout_ms / 1000
        mails, verdicts = await service.classify_messages(raws, timeout_seconds, is_cut=is_cut)
    cutoffs = verdicts.cutoffs.override(ham_below, spam_from)
    weight = weight or service.settings.score_weight
    return [
        MailVerdict(
            model=verdicts.model,
            mail=mail,
            prediction=prediction,
            windows=windows,
            score=score_of(prediction.spam_probability, weight),
            required_score=score_of(cutoffs.spam_from, weight),
            decision=cutoffs.decide(prediction.spam_probability),
        )
        for mail, prediction, windows in zip(
            mails, verdicts.predictions, verdicts.windows, strict=True
        )
    ]


async def _explain(
    request: Request, service: Service, mail: MailText, timeout_seconds: float
) -> Explanation:
    async with ended_by_disconnect(request):
        text, found = await service.explain(mail.text, timeout_seconds)
    spans = [Span(text=text[span.start : span.end], log_odds=span.log_odds) for span in found]
    complete = not text[found[-1].end if found else 0 :].strip()
    return Explanation(subject=mail.subject, spans=spans, complete=complete)


def _is_local(request: Request) -> bool:
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    # A socket for both kinds of addresses tells the older ones in the form of the newer.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_json(request: Request) -> bool:
    """Whether the body is said to be JSON, and so no message itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


async def read_message(request: Request) -> tuple[bytes, bool]:
    """The body, decompressed, and whether it is not all of it: cut after the most that the service
    reads, followed by something that is not compressed, or broken off.

    None of these is an error: filters would let the message pass unread.

    Raises:
        QueueFull: too much is held already.
        UnknownEncoding: compressed neither by gzip nor by deflate nor by zstd, or in a form.
        MalformedBody: not what its Content-Encoding says.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnknownEncoding(
            "The body is a form. Send the message itself as the body: curl --data-binary @FILE."
        )
    decompressor = decompressor_for(request)
    most = request.app.state.service.settings.max_body_bytes
    budget: BodyBudget = request.app.state.body_budget
    body, is_cut = bytearray(), False
    async for chunk in request.stream():
        if is_cut:
            continue  # the rest is taken from the line and dropped
        piece = decompressor.decompress(chunk, most + 1 - len(body)) if decompressor else chunk
        budget.hold(request, len(piece))
        body += piece
        is_cut = len(body) > most
    if decompressor:
        return bytes(body[:most]), is_cut or not decompressor.is_complete
    raw = bytes(body[: most + 1])
    unpacked = unpack_undeclared(raw, most + 1)
    if unpacked is not raw:
        budget.hold(request, len(unpacked))
    return unpacked[:most], is_cut or len(unpacked) > most


def _messages_in(value: Any) -> list[bytes]:
    try:
        messages = value["messages"]
        if not messages or not isinstance(messages, list):
            raise TypeError
        # Strict but for ASCII's blanks: else anything is base64, and the verdict one on noise.
        unbroken = [message.encode("ascii").translate(None, _BLANKS) for message in messages]
        return [binascii.a2b_base64(letters, strict_mode=True) for letters in unbroken]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise MalformedBody(
            'The body is not JSON of this form: {"messages": ["base64", "base64"]}. A message '
            "itself is sent as it is, with Content-Type: message/rfc822."
        ) from None
