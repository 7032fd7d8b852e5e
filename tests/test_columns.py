"""Letters one below another, as nobody writes who does not hide them."""

import pytest

from model.fold import fold_text
from model.html import read_html

SPAM = "Claim your free prize now click here to buy cheap viagra"


def test_words_are_read_whose_letters_stand_one_below_another() -> None:
    assert fold_text("\n\n".join("\n".join(word) for word in SPAM.split())) == SPAM
    assert fold_text("\n".join(SPAM.replace(" ", ""))) == SPAM
    boxes = "".join(f"<div style='float:left'>{letter}</div>" for letter in "claimyourprize")
    assert fold_text(read_html(boxes).text) == "Claim your prize"


@pytest.mark.parametrize(
    "column", ["ABCDE", "SMLX", "NESW", "MTWTFSS", "acbdac", "abcde", "IaIaI", "1234"]
)
def test_answers_sizes_and_days_stay_one_below_another(column: str) -> None:
    text = "\n".join(column)
    assert fold_text(text).lower() == text.lower()
