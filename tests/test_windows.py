"""Long texts: every token is read as long as the bound allows, and good words buy nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import windows
from model.classifier import Classifier
from model.fold import fold_text
from model.mail import MAX_CHARACTERS
from model.prediction import EncodedText, Prediction
from model.tokenizer import ENDOFTEXT, encode
from model.windows import encode_windows, join_predictions, read_in_windows, window_starts

SIZE = 256

probabilities = st.floats(0, 1)


def prediction(spam: float) -> Prediction:
    return Prediction(1 - spam, spam, 1, False)


def joined(*spam: float) -> float:
    return join_predictions([prediction(p) for p in spam], truncated=False).spam_probability


def test_text_that_is_read_at_once_is_one_window() -> None:
    windowed = encode_windows("Just a few words", max_tokens=4, max_windows=8)
    assert [window.token_ids for window in windowed.windows] == [encode("Just a few words", 9)[0]]
    assert not windowed.truncated


def test_white_space_is_never_too_much() -> None:
    for blank in " \n\t\u3000":
        text = "FREE" + blank * 1_000_000 + "cash now"
        windows = encode_windows(text, max_tokens=512, max_windows=8).windows
        assert windows[0].token_ids[0] == encode("FREE", 1)[0][0]
        assert windows[-1].token_ids[-1] == encode(" now", 1)[0][0]


def test_windows_are_of_the_text_made_plain() -> None:
    [window] = encode_windows("f r e e c\u0430sh", max_tokens=1024, max_windows=8).windows
    assert window.token_ids == encode("Free cash", 9)[0]


def test_empty_text_has_a_token() -> None:
    windowed = encode_windows("", max_tokens=1024, max_windows=8)
    assert [window.token_ids for window in windowed.windows] == [[ENDOFTEXT]]
    assert not windowed.truncated


@given(st.integers(1, 5_000), st.integers(2, 40))
def test_windows_reach_from_the_first_token_to_the_last(tokens: int, most: int) -> None:
    starts = window_starts(tokens, SIZE, most)
    assert len(starts) <= most
    assert starts[0] == 0
    assert starts[-1] == max(0, tokens - SIZE)
    assert starts == sorted(set(starts))


@settings(deadline=None)
@given(st.integers(SIZE + 1, 5_000))
def test_unbounded_windows_hold_each_inner_token_twice(tokens: int) -> None:
    starts = window_starts(tokens, SIZE, 1_000)
    for place in range(SIZE // 2, tokens - SIZE // 2):
        assert sum(start <= place < start + SIZE for start in starts) >= 2


def test_windows_are_as_few_as_that_takes_and_the_smallest_model_has_some() -> None:
    assert window_starts(600, SIZE, 1_000) == [0, 128, 256, 344]
    assert window_starts(3, size=1, max_windows=8) == [0, 1, 2]
    assert window_starts(600, SIZE, max_windows=1) == [0]


def test_characters_of_four_tokens_are_read_to_the_last() -> None:
    tokens = encode("𐍈", 9)[0]
    assert len(tokens) == 4
    windowed = encode_windows("𐍈" * 600, 512, max_windows=16)
    assert windowed.windows[-1].token_ids[-4:] == tokens
    assert not windowed.truncated


def test_text_beyond_the_windows_is_truncated() -> None:
    assert not encode_windows(" word" * 1_000, 1024, max_windows=1).truncated
    assert encode_windows(" word" * 2_000, 1024, max_windows=1).truncated
    assert not encode_windows(" word" * 2_000, 1024, max_windows=16).truncated
    assert not encode_windows(" word" * 2_048, 1024, max_windows=2).truncated  # end to end
    assert encode_windows(" word" * 2_049, 1024, max_windows=2).truncated
    windowed = encode_windows(" word" * 20_000, 1024, max_windows=8)
    assert windowed.truncated
    assert len(windowed.windows) == 8


def test_spam_behind_good_words_stands_in_the_last_window() -> None:
    spam = " Claim your prize now"
    windowed = encode_windows("good words " * 20_000 + spam, 1024, max_windows=4)
    spam_tokens = encode(spam, 1024)[0]
    assert windowed.windows[-1].token_ids[-len(spam_tokens) :] == spam_tokens


@given(st.lists(probabilities, min_size=1), st.lists(st.floats(0, 0.5), min_size=1))
def test_good_words_lower_the_odds_by_the_number_of_windows_at_most(
    spam: list[float], good: list[float]
) -> None:
    before, after = joined(*spam), joined(*spam, *good)
    lowest = before * len(spam)
    lowest /= lowest + (1 - before) * (len(spam) + len(good))
    assert after >= lowest - 1e-9


def test_windows_go_through_the_model_by_length_and_verdicts_come_in_order() -> None:
    asked: list[int] = []

    def predict(windows: Sequence[EncodedText]) -> list[Prediction]:
        asked.extend(len(window.token_ids) for window in windows)
        return [prediction(len(window.token_ids) / 100) for window in windows]

    verdicts = read_in_windows(predict, ["word " * n for n in (9, 2, 29, 5)], max_tokens=16)
    assert asked == [2, 5, 9, 16, 16, 16]
    odds = 0.16 / 0.84 / 3
    assert [v.spam_probability for v in verdicts] == pytest.approx(
        [0.09, 0.02, odds / (1 + odds), 0.05]
    )


def test_verdict_is_the_worst_windows_less_what_chance_explains() -> None:
    assert joined(0.123) == 0.123
    assert joined(0.1, 0.9, 0.2) == pytest.approx(3 / 4)  # odds of 9 to 1, divided by 3
    assert joined(1.0, 0.0) == 1.0
    assert joined(0.0, 0.0) == 0.0
    assert join_predictions([prediction(0.5)] * 3, truncated=True).num_tokens == 3


def test_of_an_endless_text_beginning_and_end_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def fold(text: str) -> str:
        lengths.append(len(text))
        return fold_text(text)

    monkeypatch.setattr(windows, "fold_text", fold)
    text = "First " + "Good words " * 100_000 + "Last"
    windowed = encode_windows(text, 1024, max_windows=256)
    assert lengths == [MAX_CHARACTERS]
    assert windowed.truncated
    begin, end = windowed.windows[0].token_ids, windowed.windows[-1].token_ids
    assert begin[:1] == encode("First", 9)[0]
    assert end[-1:] == encode(" Last", 9)[0]


def test_a_classifier_reads_long_texts_as_the_service_does(save_tiny: Callable[..., Path]) -> None:
    classifier = Classifier.load(save_tiny(), "cpu")
    size = classifier.max_tokens
    [cut] = classifier.classify([" word" * 3 * size], max_windows=1)
    [whole] = classifier.classify([" word" * 3 * size])
    assert (cut.num_tokens, cut.truncated) == (size, True)
    assert (whole.num_tokens, whole.truncated) == (5 * size, False)
