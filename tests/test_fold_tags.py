"""What is left out of a text as markup, and what looks so and is read."""

import pytest

from model.fold import fold_text


def test_nothing_behind_characters_that_stand_for_eighteen_is_lost() -> None:
    for number in (56, 57, 300):
        assert fold_text("\ufdfa" * number + "Claim your prize now").endswith(
            "Claim your prize now"
        )


@pytest.mark.parametrize(
    "shown",
    [
        "Use <strong> instead of <b>, and <em> instead of <i>",
        "A List<b> of them",
        "<p You have won a prize>",
        "<I win, call now>",
        "[quote=You have won a prize]ok[/quote]",
    ],
)
def test_words_in_what_is_no_tag_are_read(shown: str) -> None:
    assert fold_text(shown) == shown
    named = shown.replace("<", "&lt;").replace(">", "&gt;")
    assert fold_text(named) == shown


@pytest.mark.parametrize(
    "attributes",
    [
        "href='http://a.com/?b=1' target=_blank",
        'align="center" style="word-spacing: 0; margin-top: 0"',
        "\nSTYLE='FONT-SIZE:16pt; mso-bidi-font-size: 12.0pt;' class=x",
        'style="color:red;unknown:1"',
    ],
)
def test_attributes_are_left_out_with_their_tag(attributes: str) -> None:
    assert fold_text(f"Win<a {attributes}> here</a >, <p {attributes} />now") == "Win here, now"
