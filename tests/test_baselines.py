"""Bag-of-words models of texts that have no words."""

import pytest

from training.bag_of_words import BagOfWords
from training.baselines import fit_baselines
from training.config import TrainingError
from training.corpora import Example


def test_of_texts_without_words_stretches_of_characters_tell() -> None:
    examples = [
        Example("ab"[number % 2] * 1 + "\U0001f600\U0001f4a9"[number % 2], number % 2, "x")
        for number in range(20)
    ]
    for score in fit_baselines(examples, seed=0).values():
        ham, spam = score(examples[:2])
        assert ham < 0.5 < spam


def test_words_of_one_text_each_are_no_hindrance() -> None:
    examples = [
        Example(f"{'win' if number % 2 else 'lunch'}{number}", number % 2, "x")
        for number in range(40)
    ]
    [log_odds] = BagOfWords(examples, seed=0).log_odds(0, [examples[0].text])
    assert log_odds < 0


def test_blank_texts_are_refused() -> None:
    with pytest.raises(TrainingError, match="nothing to count in the 2 training texts"):
        fit_baselines([Example(" ", 0, "x"), Example("\n", 1, "x")], seed=0)
