"""What goes into the model, and what comes out of it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EncodedText:
    """One text, or one window of it, as the model reads it.

    Attributes:
        token_ids: at least one.
        whole: of a window, the tokens of all windows of its text; None stands for ``token_ids``.
    """

    token_ids: list[int]
    whole: list[int] | None = None

    @property
    def all_ids(self) -> list[int]:
        """The tokens of all that is read of the text."""
        return self.whole or self.token_ids


@dataclass(frozen=True, slots=True)
class Prediction:
    """The verdict on one text.

    Attributes:
        ham_probability: softmax of the two logits, 0 to 1.
        spam_probability: 1 - ham_probability up to rounding.
        num_tokens: that went through the model; those of two windows twice.
        truncated: whether the text is longer than what was read; the model itself cannot tell.
    """

    ham_probability: float
    spam_probability: float
    num_tokens: int
    truncated: bool = False

    @property
    def label(self) -> Literal["ham", "spam"]:
        """The likelier class, ``"ham"`` or ``"spam"``."""
        return "spam" if self.spam_probability > self.ham_probability else "ham"
