"""Bag-of-words models on the same split: what a network has to beat."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_union
from sklearn.svm import LinearSVC

from training.config import TrainingError
from training.corpora import Example

_WORDS = "tfidfvectorizer-1"  # as make_union names the first


def fit_baselines(
    train: Sequence[Example], seed: int
) -> dict[str, Callable[[Sequence[Example]], list[float]]]:
    """Functions from texts to P(spam): TF-IDF on word and character n-grams, two linear models.

    The SVM's distances are squeezed into 0..1 by the logistic function: their order and the verdict
    are its own, but they are not calibrated probabilities.
    """
    models = {
        "TF-IDF + linear SVM": LinearSVC(random_state=seed),
        "TF-IDF + logistic regression": LogisticRegression(C=10, max_iter=1000),
    }
    features, matrix = fit_features([e.text for e in train])
    labels = [e.label for e in train]
    return {
        name: partial(_probabilities, features, model.fit(matrix, labels))
        for name, model in models.items()
    }


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


def _probabilities(features: FeatureUnion, model: Any, examples: Sequence[Example]) -> list[float]:
    distances = model.decision_function(features.transform([e.text for e in examples]))
    probabilities: list[float] = expit(distances).tolist()
    return probabilities
