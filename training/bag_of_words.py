"""What a bag of words makes of a text, learnt beside the labels.

A bag of words errs elsewhere than a network does. So the states that the verdict is read from learn
to tell, too, what a logistic regression that has not read the text makes of it. How much of the
evidence lies in single words and stretches of letters, a label alone does not say.
"""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_union
from torch import Tensor, nn

from training.config import TrainingError
from training.corpora import Example

# Each text is judged by the regression that was fitted without its fifth.
_FOLDS = 5
_FEWEST_TEXTS = 2
# Log odds beyond this say no more, and so many are one unit of what is learnt.
_MOST_LOG_ODDS = 10.0
_UNIT = 4.0
# Beginnings of a passage that it is asked about.
PLACES = 4
_WORDS = "tfidfvectorizer-1"  # as make_union names the first


class BagOfWords:
    """Logistic regressions on TF-IDF features, each fitted without a part of the training texts."""

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        """Fits them, in about a minute for 40,000 texts.

        Args:
            examples: the training part.
            seed: draws the parts.

        Raises:
            TrainingError: so few texts of a label that all of them are in one part.
        """
        texts = [example.text for example in examples]
        self._features, matrix = fit_features(texts, _FEWEST_TEXTS)
        labels = np.array([example.label for example in examples])
        self._part = np.random.default_rng(seed).integers(_FOLDS, size=len(labels))
        if any(len(set(labels[self._part != part])) < 2 for part in range(_FOLDS)):
            raise TrainingError(
                "bag_of_words is learnt from all but a part of the training texts, and without one "
                "of them all are ham or all are spam: take more texts, or bag_of_words = 0."
            )
        self._models = [
            LogisticRegression(C=10, max_iter=1000).fit(
                matrix[self._part != part], labels[self._part != part]
            )
            for part in range(_FOLDS)
        ]

    def log_odds(self, numbers: Sequence[int], passages: Sequence[str]) -> NDArray[np.float64]:
        """Of spam, clipped, each by the model that has not read the text that it is from: (N,).

        Args:
            numbers: of the passages' texts in the training part.
            passages: N of them, at least one; asked of all at once takes a fraction of the time.
        """
        features, part = self._features.transform(passages), self._part[numbers]
        found = np.empty(len(passages))
        for other in np.unique(part):
            found[part == other] = self._models[other].decision_function(features[part == other])
        clipped: NDArray[np.float64] = found.clip(-_MOST_LOG_ODDS, _MOST_LOG_ODDS)
        return clipped


class EvidenceHead(nn.Linear):
    """Reads a bag of words' log odds from a network's states while it trains; none is saved."""

    def __init__(self, width: int) -> None:
        """At first it says 0 of everything.

        Args:
            width: of the states.
        """
        super().__init__(width, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def loss(self, states: Tensor, log_odds: Tensor) -> Tensor:
        """What it misses of the log odds (T,), NaN where unknown, given the states (T, C).

        Mean squares of texts, added up.
        """
        known = ~log_odds.isnan()
        said = self(states[known].float()).squeeze(-1)
        return F.mse_loss(said, log_odds[known] / _UNIT, reduction="sum") / PLACES


def fit_features(texts: Sequence[str], fewest_texts: int = 1) -> tuple[FeatureUnion, csr_matrix]:
    """TF-IDF of words and pairs of them and of their stretches of 2 to 5 characters.

    Args:
        texts: the training part. Where they have no words in common, as of emoji alone, stretches
            are all there is.
        fewest_texts: features of fewer training texts are left out.

    Returns:
        What makes the features, and those of the texts.

    Raises:
        TrainingError: there are no features at all.
    """
    features = _make_features(fewest_texts)
    try:
        return features, features.fit_transform(texts)
    except ValueError:
        features.set_params(**{_WORDS: "drop"})
    try:
        return features, features.fit_transform(texts)
    except ValueError as error:
        raise TrainingError(
            f"a bag of words finds nothing to count in the {len(texts)} training texts: there are "
            "too few, or they are blank."
        ) from error


def _make_features(fewest_texts: int) -> FeatureUnion:
    return make_union(
        TfidfVectorizer(
            analyzer="word", ngram_range=(1, 2), sublinear_tf=True, min_df=fewest_texts
        ),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=fewest_texts
        ),
    )
