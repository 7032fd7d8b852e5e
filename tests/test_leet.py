"""Words with digits and signs for letters, and what only looks like them."""

import pytest

from model.fold import fold_text


@pytest.mark.parametrize(
    "text",
    [
        "Réveil 7h15, départ 7h30",
        "Rendez-vous à 5h17, quai B",
        "Our office has moved to London SE11 4QE",
        "Our flat is in London se11 4qe",
        "Hi, my new address is 14 King Street, Penrith CA11 7XS. Come round any time",
        "Send it to Coventry CV4 7HE",
        "The seminar is in room C411 today",
        "Wing B rooms: B107, B319, B375",
        "Flight BA53 lands at 6, I take the bus from there",
        "Take the A11 past Norwich, then the a11",
        "Acme raises $14M in series A, rival seeks $33k, $3bn",
        "Crop it to 80x35 or 3x17",
        "Commit c0dfd1c fixes it",
        "Is @live down again, @board and @alex",
        "Deploy: $old = $new; while ($start < $end) { $top = 0; }",
        "If ($end) return $old;",
        "Temp password: S3cret!",
    ],
)
def test_times_amounts_and_codes_stay(text: str) -> None:
    assert fold_text(text) == text


def test_a_postcode_in_capitals_stays_one_in_a_text_of_capitals() -> None:
    assert fold_text("14 KING STREET, PENRITH CA11 7XS") == "14 king street, penrith ca11 7xs"


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("FR33 cash, fr33 for all", "FREE cash, free for all"),
        ("73x7 him now", "Text him now"),
        ("CA11 me now, y0u", "CALL me now, you"),
        ("7h15 is c@$h", "This is cash"),
        ("ca11 me now", "Call me now"),
        ("W1N 7HE PR1ZE", "Win the prize"),
        ("$ave it and $end it now", "Save it and send it now"),
        ("get it @bout c@$h", "Get it about cash"),
    ],
)
def test_beside_other_leet_what_may_be_a_code_is_read(disguised: str, plain: str) -> None:
    assert fold_text(disguised) == plain
