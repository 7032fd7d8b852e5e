"""Bag-of-words models on the same split: what a network has to beat."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC
from torch import Tensor

from training.bag_of_words import fit_features
from training.calibration import fit_calibration
from training.corpora import Example
from training.data import Splits


def fit_baselines(
    splits: Splits, seed: int
) -> dict[str, Callable[[Sequence[Example]], list[float]]]:
    """Functions from texts to P(spam): TF-IDF on word and character n-grams, two linear models.

    They learn from the training part, and are calibrated on the validation part as a network is:
    where much of what was learnt from is of another mix, their thresholds would be far off. Where
    some of it is for training only, one more learns from the rest: what is of use elsewhere may
    cost at home.
    """
    svm = LinearSVC(random_state=seed)
    # lbfgs ends far from the least loss of 100,000 texts, and says that it is there.
    regression = LogisticRegression(C=10, solver="newton-cg")
    models = {"TF-IDF + linear SVM": svm, "TF-IDF + logistic regression": regression}
    scores = _fit(models, splits.train, splits.validation)
    of_corpora = [e for e in splits.train if not e.training_only]
    if len({e.label for e in of_corpora}) == 2 and len(of_corpora) < len(splits.train):
        alone = {"TF-IDF + linear SVM, corpora alone": LinearSVC(random_state=seed)}
        scores |= _fit(alone, of_corpora, splits.validation)
    return scores


def _fit(
    models: dict[str, Any], train: Sequence[Example], validation: Sequence[Example]
) -> dict[str, Callable[[Sequence[Example]], list[float]]]:
    features, matrix = fit_features([e.text for e in train])
    labels = [e.label for e in train]
    validation_labels = torch.tensor([e.label for e in validation])
    scores: dict[str, Callable[[Sequence[Example]], list[float]]] = {}
    for name, model in models.items():
        model.fit(matrix, labels)
        logits = F.pad(_distances(features, model, validation)[:, None], (1, 0))
        temperature, shift = fit_calibration(logits, validation_labels)
        scores[name] = partial(_probabilities, features, model, temperature, shift)
    return scores


def _distances(features: FeatureUnion, model: Any, examples: Sequence[Example]) -> Tensor:
    """Of each text from the plane between ham and spam, (N,): above 0 where it is spam."""
    texts = [example.text for example in examples]
    return torch.from_numpy(model.decision_function(features.transform(texts)))


def _probabilities(
    features: FeatureUnion,
    model: Any,
    temperature: float,
    shift: float,
    examples: Sequence[Example],
) -> list[float]:
    log_odds = _distances(features, model, examples) / temperature + shift
    probabilities: list[float] = log_odds.sigmoid().tolist()
    return probabilities
