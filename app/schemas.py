"""Bodies of requests and replies, as the OpenAPI document shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

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
        Field(
            min_length=1,
            description="One message each, any string: empty, with NUL or lone surrogates too. "
            "Longer than the model reads, the rest is left out and `truncated` says so.",
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
    tokens: Annotated[int, Field(ge=1, description="Tokens read.")]
    truncated: Annotated[bool, Field(description="Whether the end of the text was not read.")]

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

    model_config = ConfigDict(protected_namespaces=())

    model: Annotated[str, Field(description="Checkpoint and the start of its SHA-256.")]
    results: list[Result]


class HealthResponse(BaseModel):
    """Whether the service can classify now, and with what."""

    status: Literal["ok", "loading", "failed"]
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    uptime_seconds: float


class ProblemResponse(BaseModel):
    """An error, after RFC 9457. It never repeats text of the request."""

    title: str
    status: int
    detail: Annotated[str, Field(description="What came, what is allowed, what to do.")]
    code: Annotated[str, Field(description="The kind of error, for programs.")]
