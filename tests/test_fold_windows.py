"""Characters that keyboards and Windows have in place of others."""

import pytest

from model.fold import fold_text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (
            "I don\u00b4t know, it\u00b4s late and I\u00b4m tired",
            "I don't know, it's late and I'm tired",
        ),
        ("pages 10\x9620", "pages 10–20"),
        ("\x8025 for \x93all\x94", "€25 for “all”"),
        ("we don\x92t know", "we don’t know"),
    ],
)
def test_marks_are_read_as_what_they_stand_for(typed: str, read: str) -> None:
    assert fold_text(typed).lower() == read.lower()


def test_control_characters_within_a_word_hide_nothing() -> None:
    assert fold_text("Get v\x93iag\x81ra\x8d now") == "Get viagra now"
