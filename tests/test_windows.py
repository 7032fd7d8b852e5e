"""Long texts: every token is read as long as the bound allows, and good words buy nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.classifier import Prediction
from model.tokenizer import encode
from model.windows import WINDOW_TOKENS, encode_windows, join_predictions, window_starts

probabilities = st.floats(0, 1)


def prediction(spam: float) -> Prediction:
    return Prediction(1 - spam, spam, 1, False)


def joined(*spam: float) -> float:
    return join_predictions([prediction(p) for p in spam], truncated=False).spam_probability


def test_short_text_is_one_part() -> None:
    windowed = encode_windows("just a few words", max_tokens=1024, max_windows=8)
    assert [part.token_ids for part in windowed.parts] == [encode("just a few words", 1024)[0]]
    assert not windowed.truncated


def test_empty_text_has_a_token() -> None:
    assert len(encode_windows("", max_tokens=1024, max_windows=8).parts) == 1


@given(st.integers(1, 5_000), st.integers(2, 40))
def test_windows_reach_from_the_first_token_to_the_last(tokens: int, most: int) -> None:
    starts = window_starts(tokens, WINDOW_TOKENS, most)
    assert len(starts) <= most
    if tokens > WINDOW_TOKENS:
        assert starts[0] == 0
        assert starts[-1] == tokens - WINDOW_TOKENS


@given(st.integers(WINDOW_TOKENS + 1, 5_000))
def test_unbounded_windows_hold_each_inner_token_twice(tokens: int) -> None:
    starts = window_starts(tokens, WINDOW_TOKENS, 1_000)
    for place in range(WINDOW_TOKENS // 2, tokens - WINDOW_TOKENS // 2):
        assert sum(start <= place < start + WINDOW_TOKENS for start in starts) >= 2


def test_text_beyond_the_windows_is_truncated() -> None:
    assert not encode_windows("word " * 1_000, 1024, max_windows=0).truncated
    assert encode_windows("word " * 2_000, 1024, max_windows=0).truncated
    assert not encode_windows("word " * 2_000, 1024, max_windows=16).truncated
    windowed = encode_windows("word " * 20_000, 1024, max_windows=8)
    assert windowed.truncated
    assert len(windowed.parts) == 9


def test_spam_behind_good_words_stands_in_the_last_window() -> None:
    spam = " Claim your prize now"
    windowed = encode_windows("good words " * 20_000 + spam, 1024, max_windows=4)
    spam_tokens = encode(spam, 1024)[0]
    assert windowed.parts[-1].token_ids[-len(spam_tokens) :] == spam_tokens


@given(st.lists(probabilities, min_size=3), st.lists(probabilities))
def test_further_windows_never_lower_the_verdict(spam: list[float], further: list[float]) -> None:
    assert joined(*spam, *further) >= joined(*spam) - 1e-9


def test_verdict_of_one_part_is_its_own() -> None:
    assert joined(0.0) == 0.0
    assert joined(0.123) == 0.123
    assert joined(1.0) == 1.0


def test_one_odd_window_counts_less_than_two() -> None:
    assert joined(0.1, 0.1, 0.9, 0.1) == pytest.approx(0.5)
    assert joined(0.1, 0.9, 0.9, 0.1) == pytest.approx(0.9)
    assert joined(0.9, 0.1, 0.1) == pytest.approx(0.9)
