"""Bag-of-words models of texts that have no words."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from training import bag_of_words
from training.bag_of_words import BagOfWords
from training.baselines import fit_baselines
from training.config import TrainingError
from training.corpora import Example, read_sms
from training.data import Splits


def test_of_texts_without_words_stretches_of_characters_tell() -> None:
    examples = [
        Example("ab"[number % 2] * 1 + "\U0001f600\U0001f4a9"[number % 2], number % 2, "x")
        for number in range(20)
    ]
    for score in fit_baselines(Splits(examples, examples[:4], []), seed=0).values():
        ham, spam = score(examples[:2])
        assert ham < 0.5 < spam


def test_words_of_one_text_each_are_no_hindrance() -> None:
    examples = [
        Example(f"{'win' if number % 2 else 'lunch'}{number}", number % 2, "x")
        for number in range(40)
    ]
    [log_odds] = BagOfWords(examples, seed=0).log_odds([0], [examples[0].text])
    assert log_odds < 0


def test_blank_texts_are_refused() -> None:
    blank = [Example(" ", 0, "x"), Example("\n", 1, "x")]
    with pytest.raises(TrainingError, match="nothing to count in the 2 training texts"):
        fit_baselines(Splits(blank, blank, []), seed=0)


def test_they_are_calibrated_on_the_validation_part_alone(corpus: Path) -> None:
    """Half of what they learn from is spam, a quarter of the validation part."""
    examples = read_sms(corpus)
    ham, spam = ([e for e in examples if e.label == label] for label in (0, 1))
    size = min(len(ham) // 2, 2 * len(spam) // 3)
    train = ham[: size // 2] + spam[: size // 2]
    held_out = ham[-size // 2 :][: 3 * (size // 6)] + spam[-(size // 6) :]
    for score in fit_baselines(Splits(train, held_out, train[:3]), seed=0).values():
        assert np.mean(score(held_out)) == pytest.approx(0.25, abs=0.02)


def test_they_are_as_strong_as_they_were_chosen_to_be() -> None:
    """What the network is compared with: whoever changes it measures anew."""
    words, letters = (
        transformer for _, transformer in bag_of_words._make_features(1).transformer_list
    )
    assert (words.analyzer, words.ngram_range, words.sublinear_tf) == ("word", (1, 2), True)
    assert (letters.analyzer, letters.ngram_range) == ("char_wb", (2, 5))
    examples = [Example(f"{'win' if n % 2 else 'lunch'} {n}", n % 2, "x") for n in range(20)]
    scores = fit_baselines(Splits(examples, examples, []), seed=0)
    models = [score.args[1] for score in scores.values()]  # type: ignore[attr-defined]
    assert [type(model) for model in models] == [LinearSVC, LogisticRegression]
    assert [model.C for model in models] == [1.0, 10]
    assert models[1].solver == "newton-cg"  # lbfgs ends early where there are many texts


def test_one_more_has_read_the_corpora_alone() -> None:
    """A word that tells in them alone, and in what is for training only the reverse."""
    own = [Example(f"{'win' if n % 2 else 'lunch'} {n}", n % 2, "x") for n in range(20)]
    more = [
        Example(f"{'win' if n % 2 else 'lunch'} {n}", 1 - n % 2, "y", training_only=True)
        for n in range(20, 120)
    ]
    assert len(fit_baselines(Splits(own, own, []), seed=0)) == 2
    scores = fit_baselines(Splits(own + more, own, []), seed=0)
    svm, _, alone = scores.values()
    assert list(scores)[2] == "TF-IDF + linear SVM, corpora alone"
    texts = [Example("win", 1, "x"), Example("lunch", 0, "x")]
    of_all, of_corpora = svm(texts), alone(texts)
    assert of_all[0] < of_all[1]
    assert of_corpora[0] > of_corpora[1]
