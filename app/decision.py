"""Ham, unsure or spam: the decision on a probability, by two cut-offs. Knows nothing of HTTP."""

import math
from dataclasses import dataclass
from typing import Literal

from model.classifier import Classifier
from model.folders import CheckpointError

Decision = Literal["ham", "unsure", "spam"]

# Where the checkpoint's run.json says nothing under "cutoffs".
_HAM_BELOW = 0.2
_SPAM_FROM = 0.8


@dataclass(frozen=True)
class Cutoffs:
    """Below the first a message is ham, from the second on it is spam, between them unsure."""

    ham_below: float
    spam_from: float

    @classmethod
    def of(cls, classifier: Classifier) -> "Cutoffs":
        """The cut-offs that the checkpoint was given when it was made.

        They bound the share of ham above one and of spam below the other, whatever the mix of the
        two: where the classifier assumes another prior, they shift with its verdicts.

        Raises:
            CheckpointError: ``cutoffs`` of run.json is not what ``training.cutoffs`` writes.
        """
        stated = classifier.run.get("cutoffs")
        if stated is None:
            return cls(_HAM_BELOW, _SPAM_FROM)
        try:
            ham_below, spam_from = float(stated["ham_below"]), float(stated["spam_from"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f'{classifier.name}: "cutoffs" of run.json must hold the numbers ham_below and '
                "spam_from."
            ) from error
        if not 0 <= ham_below <= spam_from <= 1:
            raise CheckpointError(
                f"{classifier.name}: run.json has the cut-offs {ham_below} and {spam_from}; "
                "0 <= ham_below <= spam_from <= 1 must hold."
            )
        if shift := classifier.log_odds_shift:
            return cls(_shifted(ham_below, shift), _shifted(spam_from, shift))
        return cls(ham_below, spam_from)

    def override(self, ham_below: float | None, spam_from: float | None) -> "Cutoffs":
        """The cut-offs that a caller tells, and these where none is told.

        Raises:
            ValueError: both are told, and mistaken for each other.
        """
        if ham_below is not None and spam_from is not None and ham_below > spam_from:
            raise ValueError(f"ham_below, {ham_below}, must not be above spam_from, {spam_from}")
        return Cutoffs(
            self.ham_below if ham_below is None else ham_below,
            self.spam_from if spam_from is None else spam_from,
        )

    def decide(self, spam_probability: float) -> Decision:
        """The decision on a probability of spam."""
        if spam_probability >= self.spam_from:
            return "spam"
        return "ham" if spam_probability < self.ham_below else "unsure"


def score_of(spam_probability: float, weight: float) -> float:
    """The score that mail filters add up: weight * (2 * P(spam) - 1), to four digits."""
    return round(weight * (2 * spam_probability - 1), 4)


def _shifted(probability: float, log_odds: float) -> float:
    odds = probability * math.exp(log_odds)
    return odds / (odds + (1 - probability))
