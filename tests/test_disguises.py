"""Disguises change the words that they say, and nothing else."""

import random

import pytest

from benchmarks.disguises import UNFOLDED, every_second_long_word

TEXT = "Claim\tyour prize\n\nnow, take  it\u00a0home today\r\nof all\n"


def test_every_second_long_word_is_changed_and_no_blank_or_line_end() -> None:
    changed = every_second_long_word(TEXT, str.upper)
    assert changed == "CLAIM\tyour PRIZE\n\nnow, TAKE  it\u00a0home TODAY\r\nof all\n"
    assert every_second_long_word(TEXT, lambda word: word) == TEXT
    assert every_second_long_word("", str.upper) == ""


@pytest.mark.parametrize(
    ("name", "signs"),
    [
        ("a star for a letter", 0),
        ("two letters swapped", 0),
        ("another letter", 0),
        ("a letter less", -1),
        ("a letter more", 1),
    ],
)
def test_a_slip_changes_each_word_that_it_meets(name: str, signs: int) -> None:
    """Of two signs alone, half of the draws would meet what is there already."""
    rng = random.Random(0)
    for _ in range(500):
        word = "".join(rng.choices("aab", k=5))
        changed = UNFOLDED[name](word)
        assert len(changed) == len(word) + signs
        assert changed != word or (name == "two letters swapped" and len(set(word[1:])) == 1)


def test_another_letter_is_not_the_same_one_in_small() -> None:
    for number in range(300):
        word = f"AAAAA{number}"
        assert UNFOLDED["another letter"](word).lower() != word.lower()
