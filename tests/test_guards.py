"""What tells sooner than a rule that it has nothing to do lets through what the rule is for."""

from model.broken import without_breaks
from model.lines import tidy_blanks
from model.sentences import as_typed
from model.tokenized import join_marks


def test_a_blank_with_characters_without_width_is_one() -> None:
    assert tidy_blanks("a \u200b b") == "a b"


def test_words_in_two_are_told_whatever_their_case() -> None:
    assert without_breaks("Cli ck he re for cash") == "Click here for cash"


def test_a_sentence_begins_behind_a_blank_and_an_empty_line() -> None:
    assert as_typed("see you there \n\nbring the book") == "See you there \n\nBring the book"


def test_marks_apart_may_begin_a_line() -> None:
    assert join_marks("see it\n. it is $ 5\n.") == "see it\n. it is $5\n."
