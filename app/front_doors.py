"""The endpoints that mail filters already speak, so that they need configuration only.

``POST /v1/chat/completions`` for rspamd's gpt plugin, ``POST /checkv2`` for what speaks rspamd's
own protocol (Haraka, Amavis), ``POST /v1/classify`` for clients of vLLM. None of them fails over
the content of a message: a filter that gets no verdict lets the message pass.
"""

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from app.bodies import JSONRoute
from app.errors import MalformedBody
from app.mail import MAIL_CONTENT, classify_mails, read_message
from app.problems import SCOPE_KEY
from app.routes import CLASSIFY_ERRORS, TheService, TimeoutMs, classify_texts
from app.schemas import EXAMPLE_TEXTS
from model.gpt2 import LABELS
from model.prediction import Prediction

# The one symbol of a reply to /checkv2, and the header field that it asks for.
SYMBOL = "SPAMGATE"
_FIELD = "X-Spamgate"
_ACTIONS = {"ham": "no action", "unsure": "no action", "spam": "add header"}

_INPUT = Body(
    examples=[{"input": EXAMPLE_TEXTS}],
    json_schema_extra={
        "required": ["input"],
        "properties": {
            "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        },
    },
)
_CHAT = Body(
    examples=[{"messages": [{"role": "user", "content": EXAMPLE_TEXTS[0]}]}],
    json_schema_extra={
        "required": ["messages"],
        "properties": {"messages": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
    },
)

router = APIRouter(
    tags=["front doors"],
    route_class=JSONRoute,
    strict_content_type=False,
    responses=CLASSIFY_ERRORS,
)


@router.post("/v1/chat/completions", summary="As a chat model that is asked about a mail")
async def chat_completions(
    body: Annotated[dict[str, Any], _CHAT],
    request: Request,
    service: TheService,
    timeout_ms: TimeoutMs = None,
) -> dict[str, Any]:
    """Three lines as rspamd's gpt plugin reads them: probability, reason, category; or the same as
    JSON where the request or its system message asks for that."""
    if body.get("stream") is True:
        raise MalformedBody('"stream" must be false: an answer comes in one piece.')
    verdicts = await classify_texts(request, service, [_text_in_chat(body)], timeout_ms)
    [prediction] = verdicts.predictions
    tokens = prediction.num_tokens
    answer = _answer(prediction, verdicts.model, _wants_json(body))
    return {
        "id": f"chatcmpl-{request.scope[SCOPE_KEY].request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": verdicts.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    }


@router.post(
    "/checkv2",
    summary="As an rspamd that checks a raw message",
    openapi_extra={"requestBody": {"content": MAIL_CONTENT}},
)
async def check(
    request: Request, service: TheService, timeout_ms: TimeoutMs = None
) -> dict[str, Any]:
    """Score, required score and action; one symbol. Headers that tell of the envelope are not
    looked at."""
    begin = time.monotonic()
    raw, is_cut = await read_message(request)
    [verdict] = await classify_mails(request, service, [raw], timeout_ms=timeout_ms, is_cut=is_cut)
    return {
        "is_skipped": False,
        "time_real": round(time.monotonic() - begin, 6),
        "score": verdict.score,
        "required_score": verdict.required_score,
        "action": _ACTIONS[verdict.decision],
        "thresholds": {"add header": verdict.required_score},
        "symbols": {
            SYMBOL: {
                "name": SYMBOL,
                "score": verdict.score,
                "metric_score": verdict.score,
                "description": f"The text reads like {verdict.prediction.label}",
                "options": [f"{verdict.prediction.spam_probability:.4f}", verdict.decision],
            }
        },
        "messages": {},
        "urls": [],
        "emails": [],
        "milter": {
            "remove_headers": {_FIELD: 0},  # all that the sender put there
            "add_headers": {
                _FIELD: {
                    "value": f"{verdict.decision} {verdict.prediction.spam_probability:.4f}",
                    "order": 0,
                }
            },
        },
    }


@router.post("/v1/classify", summary="As vLLM's classification")
async def classify(
    body: Annotated[dict[str, Any], _INPUT],
    request: Request,
    service: TheService,
    timeout_ms: TimeoutMs = None,
) -> dict[str, Any]:
    """Label and probabilities of ``input``, one text or a list; see POST /classify for the rest."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not texts or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise MalformedBody('"input" must be a text or a list of texts.')
    verdicts = await classify_texts(request, service, texts, timeout_ms)
    tokens = sum(prediction.num_tokens for prediction in verdicts.predictions)
    return {
        "id": f"classify-{request.scope[SCOPE_KEY].request_id}",
        "object": "list",
        "created": int(time.time()),
        "model": verdicts.model,
        "data": [
            {
                "index": index,
                "label": prediction.label,
                "probs": [prediction.ham_probability, prediction.spam_probability],
                "num_classes": len(LABELS),
            }
            for index, prediction in enumerate(verdicts.predictions)
        ],
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


def _text_in_chat(body: dict[str, Any]) -> str:
    """The mail in a chat: of the messages that do not instruct the model the subject, if one before
    the last is one, and the last.

    rspamd sends what it knows of the user, if it is told to, the subject, the sender, the domains
    of links and the text, one message each; the model was trained on subject and text. Any other
    chat is read whole.
    """
    messages = body.get("messages")
    contents = [
        _content_text(message.get("content"))
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and not _instructs(message)
    ]
    if not contents:
        raise MalformedBody(
            '"messages" must hold a message whose role is neither "system" nor "developer".'
        )
    subject = ""
    subjects = [content for content in contents[:-1] if content.startswith("Subject:")]
    if subjects:
        subject = subjects[0].removeprefix("Subject:").strip()
        contents = contents[-1:]
    return "\n\n".join(part for part in (subject, *contents) if part)


def _instructs(message: dict[str, Any]) -> bool:
    """Whether it tells the model what to do, by the older or the newer name of that role."""
    return message.get("role") in ("system", "developer")


def _content_text(content: object) -> str:
    """A message's content, which may be a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _wants_json(body: dict[str, Any]) -> bool:
    if isinstance(body.get("response_format"), dict):
        return body["response_format"].get("type") in ("json_object", "json_schema")
    messages = body.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict)
        and _instructs(message)
        and "json" in _content_text(message.get("content")).lower()
        for message in messages
    )


def _answer(prediction: Prediction, model: str, as_json: bool) -> str:
    probability, label = round(prediction.spam_probability, 4), prediction.label
    reason = f"The text reads like {label} to {model}"
    if as_json:
        return json.dumps({"probability": probability, "reason": reason, "category": label})
    return f"{probability:.4f}\n{reason}\n{label}"
