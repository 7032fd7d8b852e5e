"""Bodies of requests and replies, as the OpenAPI document shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, JsonValue

from app.decision import Decision
from model.prediction import Prediction

EXAMPLE_TEXTS: list[JsonValue] = [
    "You are a winner you have been specially selected to receive $1000 cash or a $2000 reward",
    "Hey, just wanted to check if we're still on for dinner tonight? Let me know!",
]


class ClassifyRequest(BaseModel):
    """Texts to classify."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": EXAMPLE_TEXTS}]})

    texts: Annotated[
        list[str],
        FailFast(),  # a list of a million numbers would make as many errors, a kilobyte each
        Field(
            min_length=1,
            description="One message each, any string: empty, with NUL or lone surrogates too. "
            "Longer than the model reads at once, it is read in windows.",
        ),
    ]


class Probabilities(BaseModel):
    """Of the two labels; they add up to 1."""

    ham: Annotated[float, Field(ge=0, le=1)]
    spam: Annotated[float, Field(ge=0, le=1)]


class Result(BaseModel):
    """The verdict on one text."""

    label: Annotated[Literal["ham", "spam"], Field(description="The likelier of the two.")]
    probabilities: Probabilities
    tokens: Annotated[int, Field(ge=1, description="That went through the model.")]
    truncated: Annotated[bool, Field(description="Whether something was left unread.")]

    @classmethod
    def of(cls, prediction: Prediction) -> "Result":
        """The prediction as the reply shows it."""
        return cls.model_construct(
            label=prediction.label,
            probabilities=Probabilities.model_construct(
                ham=prediction.ham_probability, spam=prediction.spam_probability
            ),
            tokens=prediction.num_tokens,
            truncated=prediction.truncated,
        )


ModelName = Annotated[
    str,
    Field(
        description="Checkpoint and the start of its SHA-256.", examples=["starter@5f0c1b7d2a90"]
    ),
]


class ClassifyResponse(BaseModel):
    """One result per text, in the order of the request."""

    model: ModelName
    results: list[Result]


class Span(BaseModel):
    """A passage and what it does to the verdict."""

    text: str
    log_odds: Annotated[
        float, Field(description="Of spam, with the passage minus without it; above 0 for spam.")
    ]


class Explanation(BaseModel):
    """What was read, cut into passages: each was left out in turn, and the model asked again."""

    method: Literal["leave one span out"] = "leave one span out"
    subject: str
    spans: list[Span]
    complete: Annotated[bool, Field(description="Whether the spans are all that was read.")]


class MessageResult(Result):
    """The verdict on one message, and what was read of it."""

    decision: Annotated[Decision, Field(description="By the two cut-offs.")]
    score: Annotated[float, Field(description="weight * (2 * P(spam) - 1).")]
    parts: Annotated[list[str], Field(description="Content types of the parts that were read.")]
    charset: Annotated[str, Field(description="By which the first of them was decoded.")]
    characters: Annotated[int, Field(ge=0, description="Read, the subject included.")]
    windows: Annotated[int, Field(ge=1, description="Passages that went through the model.")]
    explanation: Annotated[
        Explanation | None,
        Field(description="With `explain=true`, of one message, where there was room and time."),
    ] = None


class MessageResponse(BaseModel):
    """One result per message, in the order of the request."""

    model: ModelName
    results: list[MessageResult]


class FeedbackResponse(BaseModel):
    """What became of a report."""

    digest: Annotated[str, Field(description="SHA-256 of the text as the model reads it.")]
    new: Annotated[bool, Field(description="Whether this source had not said so before.")]


class HealthResponse(BaseModel):
    """Whether the service can classify now, and with what."""

    status: Literal["ok", "loading", "unavailable", "failed"]
    reason: Annotated[str | None, Field(description="Why not, where the status is not ok.")] = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    uptime_seconds: float


class InfoResponse(BaseModel):
    """The model in use and the limits of the service."""

    model: ModelName
    labels: list[str]
    device: str
    dtype: Annotated[str, Field(description="Number format of the model.")]
    threads: Annotated[int, Field(description="CPU threads of the model.")]
    max_tokens: Annotated[int, Field(description="Tokens of the longest window.")]
    max_texts: Annotated[int, Field(description="Most texts in one request.")]
    max_body_bytes: Annotated[int, Field(description="Most bytes of a body, decompressed.")]
    max_batch_tokens: Annotated[int, Field(description="Most tokens in one forward pass.")]
    max_queue_tokens: Annotated[int, Field(description="Most tokens that wait; beyond it, 429.")]
    max_pending_texts: Annotated[int, Field(description="Most texts unanswered; beyond it, 429.")]
    timeout_seconds: Annotated[
        float, Field(description="For a verdict, where a request does not say X-Timeout-Ms.")
    ]
    spam_prior: Annotated[
        float | None,
        Field(description="Share of spam that the probabilities assume; null: not known."),
    ] = None
    ham_below: Annotated[float, Field(description="Cut-off of mail: ham below it.")]
    spam_from: Annotated[float, Field(description="Cut-off of mail: spam from it on.")]
    run: Annotated[
        dict[str, JsonValue] | None,
        Field(description="`run.json` of the checkpoint: how it was made and how good it is."),
    ] = None
    version: str


class ReloadRequest(BaseModel):
    """Which checkpoint to switch to."""

    model_config = ConfigDict(extra="forbid")

    checkpoint: Annotated[
        str | None,
        Field(
            description="Folder or hub id; without it the one of the settings.",
            examples=["runs/next"],
        ),
    ] = None


class ReloadResponse(BaseModel):
    """The model in use after a switch."""

    model: ModelName


class ProblemResponse(BaseModel):
    """An error, after RFC 9457. It never repeats text of the request."""

    title: str
    status: int
    detail: Annotated[str, Field(description="What came, what is allowed, what to do.")]
    code: Annotated[str, Field(description="The kind of error, for programs.")]
    request_id: Annotated[str, Field(description="As in the header X-Request-ID and the log.")]
    retry_after_ms: Annotated[
        int | None, Field(description="When a new attempt has a chance, where waiting helps.")
    ] = None
