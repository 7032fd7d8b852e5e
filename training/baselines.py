"""Bag-of-words models on the same split: what a network has to beat."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from training.corpora import Example
from training.evaluate import Metrics, measure


def baseline_probabilities(
    train: Sequence[Example], test: Sequence[Example], seed: int
) -> dict[str, list[float]]:
    """P(spam) of each test text from TF-IDF on word and character n-grams with two linear models.

    The SVM's distances are squeezed into 0..1 by the logistic function: their order and the verdict
    are its own, but they are not calibrated probabilities.
    """
    models = {
        "TF-IDF + linear SVM": LinearSVC(random_state=seed),
        "TF-IDF + logistic regression": LogisticRegression(C=10, max_iter=1000),
    }
    results = {}
    for name, model in models.items():
        features = make_union(
            TfidfVectorizer(analyzer="word", ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
        )
        pipeline = make_pipeline(features, model)
        pipeline.fit([e.text for e in train], [e.label for e in train])
        distances = pipeline.decision_function([e.text for e in test])
        results[name] = (1 / (1 + np.exp(-distances))).tolist()
    return results


def measure_baselines(
    train: Sequence[Example], test: Sequence[Example], seed: int
) -> dict[str, Metrics]:
    """Test metrics of ``baseline_probabilities``."""
    labels = [e.label for e in test]
    probabilities = baseline_probabilities(train, test, seed)
    return {name: measure(labels, values) for name, values in probabilities.items()}
