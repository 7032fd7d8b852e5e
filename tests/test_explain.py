"""Explanations: exact for the spans they name, and bounded in cost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.classifier import Classifier
from model.explain import MAX_SPANS, MAX_TOKENS, cut_spans, influences, without
from model.prediction import Prediction
from tests.conftest import SPAM


@given(st.text(), st.integers(0, 100_000))
def test_spans_are_the_text_and_bounded(text: str, num_tokens: int) -> None:
    spans = cut_spans(text, num_tokens)
    assert "".join(text[start:end] for start, end in spans) == text.lstrip() or not spans
    assert len(spans) <= MAX_SPANS
    assert len(spans) * num_tokens <= max(MAX_TOKENS, num_tokens)


def test_short_text_is_explained_word_by_word() -> None:
    assert cut_spans("win cash  now", 4) == [(0, 4), (4, 10), (10, 13)]
    assert without("win cash now", [(0, 4), (4, 9)]) == ["cash now", "win now"]


def test_a_language_without_blanks_is_explained_letter_by_letter() -> None:
    thai = "ที่นี่"
    assert [thai[start:end] for start, end in cut_spans(thai, 20)] == ["ที่", "นี่"]
    text = "恭喜您中奖了! Win now"
    assert [text[start:end] for start, end in cut_spans(text, 20)] == [
        *"恭喜您中奖了",
        "! ",
        "Win ",
        "now",
    ]


def test_long_text_is_explained_in_as_many_spans_as_may_be_read() -> None:
    text = "word " * 100
    assert len(cut_spans(text, 100)) == 34  # of 3 words: with 2 they would be 50
    assert len(cut_spans(text, 1_000)) == 12  # of 9 words, 12,000 tokens


def test_influence_is_the_difference_that_a_span_makes(save_tiny: Callable[..., Path]) -> None:
    classifier = Classifier.load(save_tiny(), device="cpu")
    spans = cut_spans(SPAM, 20)
    whole, *rest = classifier.classify([SPAM, *without(SPAM, spans)])
    found = influences(spans, whole, rest)
    assert [(influence.start, influence.end) for influence in found] == spans
    assert any(influence.log_odds for influence in found)


def verdict(ham: float, spam: float) -> Prediction:
    return Prediction(ham, spam, num_tokens=1, truncated=False)


def test_signs() -> None:
    others = [verdict(0.9, 0.1), verdict(0.1, 0.9), verdict(0.5, 0.5)]
    for_spam, for_ham, neutral = influences([(0, 1)] * 3, verdict(0.5, 0.5), others)
    assert for_spam.log_odds == pytest.approx(2.1972)
    assert for_ham.log_odds == pytest.approx(-2.1972)
    assert neutral.log_odds == 0
    others = [verdict(0.999, 0.001), verdict(0.0, 1.0)]
    [rare, sure] = influences([(0, 1)] * 2, verdict(0.5, 0.5), others)
    assert rare.log_odds == pytest.approx(6.9068)
    assert sure.log_odds == pytest.approx(-69.0776)


def test_a_sure_verdict_is_explained_as_well() -> None:
    """In float32 P(spam) is 1 long before P(ham) is 0."""
    [found] = influences([(0, 1)], verdict(1e-12, 1.0), [verdict(1e-10, 1.0)])
    assert found.log_odds == pytest.approx(4.6052)
