"""What goes into the model, and what comes out of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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

    def with_odds_divided(self, divisor: int) -> "Prediction":
        """The same with the odds of spam to ham divided; by 1 they stay to the last digit."""
        if divisor == 1:
            return self
        spam, ham = self.spam_probability, divisor * self.ham_probability
        return replace(
            self, ham_probability=ham / (spam + ham), spam_probability=spam / (spam + ham)
        )


def judge_readings(
    predictions: Sequence[Prediction], counts: Iterable[int]
) -> list[tuple[int, Prediction]]:
    """The verdict on each message: the worst of those on its readings.

    What only some programs show has to be twice as likely to be spam as what all do: of two looks
    the worse is above any bound more often than one.

    >>> verdicts = [Prediction(0.9, 0.1, 5), Prediction(0.2, 0.8, 7), Prediction(0.6, 0.4, 3)]
    >>> [(n, round(verdict.spam_probability, 3)) for n, verdict in judge_readings(verdicts, [2, 1])]
    [(1, 0.667), (2, 0.4)]

    Args:
        predictions: on all readings of all messages, in order.
        counts: how many readings each message has, at least one.

    Returns:
        Where in ``predictions`` the reading lies that counted, and the verdict, for each message.
    """
    found, end = [], 0
    for count in counts:
        start, end = end, end + count
        verdicts = [
            (n, predictions[n].with_odds_divided(1 if n == start else 2)) for n in range(start, end)
        ]
        found.append(max(verdicts, key=lambda verdict: verdict[1].spam_probability))
    return found
