"""Bodies of requests and replies, as the OpenAPI document shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, JsonValue

from model.classifier import Prediction

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


class ClassifyResponse(BaseModel):
    """One result per text, in the order of the request."""

    model: Annotated[
        str,
        Field(
            description="Checkpoint and the start of its SHA-256.",
            examples=["starter@5f0c1b7d2a90"],
        ),
    ]
    results: list[Result]


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

    model: Annotated[str, Field(description="Checkpoint and the start of its SHA-256.")]
    labels: list[str]
    device: str
    dtype: Annotated[str, Field(description="Number format of the model.")]
    threads: Annotated[int, Field(description="CPU threads of the model.")]
    max_tokens: Annotated[int, Field(description="That the model reads at once: a window.")]
    max_texts: Annotated[int, Field(description="In one request.")]
    max_body_bytes: Annotated[int, Field(description="After decompression.")]
    max_batch_tokens: Annotated[int, Field(description="In one forward pass.")]
    max_queue_tokens: Annotated[int, Field(description="That wait; beyond that 429.")]
    max_pending_texts: Annotated[int, Field(description="Not yet answered; beyond that 429.")]
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

    model: str


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
