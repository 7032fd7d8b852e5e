"""Cut-offs for a checkpoint's decisions, and how far its probabilities can be taken at their word.

Both from texts that the model was not trained on, at the mix in which they come.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import beta

from training.config import TrainingError

_Floats = NDArray[np.float64]

# What may go wrong beyond the unsure band: ham called spam above it, spam called ham below it.
_HAM_BLOCKED = 0.005
_SPAM_MISSED = 0.01
# How sure it is that no more ham is called spam: some thousand texts tell half a percent poorly.
_CONFIDENCE = 0.95
TEXTS_OF_A_CUTOFF = math.ceil(math.log(1 - _CONFIDENCE) / math.log(1 - _HAM_BLOCKED))  # 598
"""Ham from which on ``spam_from`` is told by what was seen; with less it lies beyond that."""
# The tail beyond the last text is drawn from this many.
_TAIL_TEXTS = 10
_LOGIT_BOUND = 1e-9
_BINS = 10


@dataclass(frozen=True)
class Cutoffs:
    """Probabilities of spam at which decisions change; ``cutoffs`` of run.json.

    Attributes:
        ham_below: a text below it is ham. About 1 % of spam lies there; at most 0.5.
        spam_from: a text from it on is spam. At most 0.5 % of ham lies there, with a confidence of
            95 % where it was found from ``TEXTS_OF_A_CUTOFF`` ham; at least 0.5.
        blocks_0_1_percent: from which on lies 0.1 % of ham, wherever that is.
        blocks_1_percent: the same of 1 %.
    """

    ham_below: float
    spam_from: float
    blocks_0_1_percent: float
    blocks_1_percent: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Texts whose probability of spam lies in one tenth.

    Attributes:
        low: the lower end, included.
        high: the upper end, excluded but for 1.
        texts: how many there are.
        predicted: their mean probability of spam; None without texts.
        observed: the share of them that is spam; None without texts.
    """

    low: float
    high: float
    texts: int
    predicted: float | None
    observed: float | None


def find_cutoffs(labels: Sequence[int], spam_probabilities: Sequence[float]) -> Cutoffs:
    """Cut-offs that keep the promised shares among further texts of the same kind.

    ``spam_from`` keeps it with the stated confidence, the others on average.

    Args:
        labels: 0 ham, 1 spam.
        spam_probabilities: as the service would answer, one a text.

    Raises:
        TrainingError: fewer than two texts of a class.
    """
    truth, probabilities = np.asarray(labels), np.asarray(spam_probabilities)
    logits = logit(np.clip(probabilities, _LOGIT_BOUND, 1 - _LOGIT_BOUND))
    ham, spam = logits[truth == 0], logits[truth == 1]
    if min(len(ham), len(spam)) < 2:
        raise TrainingError(
            f"cut-offs need two ham and two spam at least, here are {len(ham)} and {len(spam)}."
        )
    spam_from = float(expit(upper_quantile(ham, _HAM_BLOCKED, _CONFIDENCE)))
    tied = probabilities[(truth == 0) & np.isclose(probabilities, spam_from, rtol=0, atol=1e-9)]
    if len(tied) > 1:  # none of them may lie there
        spam_from = min(1.0, float(np.nextafter(np.float32(tied.max()), np.float32(2))))
    return Cutoffs(
        ham_below=min(0.5, float(expit(-upper_quantile(-spam, _SPAM_MISSED)))),
        spam_from=max(0.5, spam_from),
        blocks_0_1_percent=float(expit(upper_quantile(ham, 0.001))),
        blocks_1_percent=float(expit(upper_quantile(ham, 0.01))),
    )


def upper_quantile(values: _Floats, share: float, confidence: float | None = None) -> float:
    """The value that a further draw exceeds with this probability, or with no more than it.

    Of n values, a further one lies above the j-th largest with probability j / (n + 1), whatever
    their distribution; between two of them the line is straight. A share below 1 / (n + 1) lies
    beyond all of them: there the tail is taken to fall off exponentially, at the mean distance of
    the ten largest from the next. The share above the j-th largest scatters from sample to sample
    like Beta(j, n - j + 1) (Wilks 1941), which gives the j for a confidence.

    Args:
        values: at least two, in any order; log-odds, whose tails are near exponential.
        share: above 0, below 1.
        confidence: how sure it is that no larger share lies above; None for the share on average.

    >>> upper_quantile(np.arange(1.0, 100.0), 0.1)
    90.0
    """
    falling = np.sort(values)[::-1]
    rank = share * (len(values) + 1)
    if confidence is not None:
        rank = _tolerance_rank(len(values), share, confidence)
    if rank >= 1:
        return float(np.interp(rank, np.arange(1, len(values) + 1), falling))
    tail = min(_TAIL_TEXTS, len(values) - 1)
    mean_excess = float(np.mean(falling[:tail]) - falling[tail])
    return float(falling[0]) - mean_excess * math.log(rank)


def _tolerance_rank(size: int, share: float, confidence: float) -> float:
    """The j, fractional, for which at most ``share`` lies above the j-th largest value, with this
    confidence."""

    def lacking(rank: float) -> float:
        return float(beta.cdf(share, rank, size + 1 - rank)) - confidence

    return float(brentq(lacking, 1e-9, share * (size + 1)))


def reliability(labels: Sequence[int], spam_probabilities: Sequence[float]) -> list[ReliabilityBin]:
    """Predicted against observed spam in tenths."""
    truth = np.asarray(labels, dtype=np.float64)
    scores = np.asarray(spam_probabilities, dtype=np.float64)
    places = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    table = []
    for n in range(_BINS):
        here = places == n
        texts = int(here.sum())
        table.append(
            ReliabilityBin(
                low=n / _BINS,
                high=(n + 1) / _BINS,
                texts=texts,
                predicted=float(scores[here].mean()) if texts else None,
                observed=float(truth[here].mean()) if texts else None,
            )
        )
    return table


def as_reliability_table(table: Sequence[ReliabilityBin]) -> str:
    """The bins as Markdown, for a model card."""
    lines = ["| P(spam) | texts | mean predicted | share of spam |", "|---|---|---|---|"]
    for row in table:
        predicted = "" if row.predicted is None else f"{row.predicted:.3f}"
        observed = "" if row.observed is None else f"{row.observed:.3f}"
        lines.append(
            f"| {row.low:.1f} to {row.high:.1f} | {row.texts} | {predicted} | {observed} |"
        )
    return "\n".join(lines)


def as_cutoff(probability: float) -> str:
    """A cut-off with so many digits that it is told from 0 and 1.

    >>> as_cutoff(0.9), as_cutoff(0.99996)
    ('0.9000', '0.999960')
    """
    distance = min(probability, 1 - probability)
    digits = 1 - math.floor(math.log10(distance)) if distance > 0 else 0
    return f"{probability:.{max(4, digits)}f}"


def decision_facts(labels: Sequence[int], spam_probabilities: Sequence[float]) -> dict[str, object]:
    """What run.json holds for the service and the model card.

    Returns:
        ``cutoffs``; ``decided``, the shares of ``ham`` below ``ham_below`` and of ``spam`` at or
        above ``spam_from``; and ``reliability``.

    Raises:
        TrainingError: as for ``find_cutoffs``.
    """
    cutoffs = find_cutoffs(labels, spam_probabilities)
    is_spam, probabilities = np.asarray(labels) == 1, np.asarray(spam_probabilities)
    ham, spam = probabilities[~is_spam], probabilities[is_spam]
    return {
        "cutoffs": dataclasses.asdict(cutoffs),
        "decided": {
            "ham": float(np.mean(ham < cutoffs.ham_below)),
            "spam": float(np.mean(spam >= cutoffs.spam_from)),
        },
        "reliability": [dataclasses.asdict(row) for row in reliability(labels, spam_probabilities)],
    }
