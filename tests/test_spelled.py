"""Words spelled out, and the labels, scales and versions that only look like them."""

import pytest

from model.fold import fold_text


@pytest.mark.parametrize(
    "text",
    [
        'They sent {"x":1,"y":2,"z":3} back',
        "Answer key: 1-A, 2-C, 3-B, 4-D, 5-A",
        "The seats A-1, A-2, B-1, B-2",
        "Group A: 2-1, B: 3-0",
        "Let x_1, x_2, x_3 be real",
        "Edges: A-B, B-C, C-D",
        "Run chmod u+x,g-w,o-r f",
        "Use s/a/b/g;s/c/d/g",
        "How likely is it? 0 1 2 3 4 5 6 7 8 9 10",
        "Letters A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
        "Page 1 2 3 4 5 6 7",
        "Lotto: 5 8 1 2 3 9",
        "The days S M T W T F S",
        "Chords G C G D G",
        "Name T W H G 0.19",
        "Wir suchen Entwickler (m/w/d)",
        "That is 1.3.6.1.2.1.1.3.0",
        "See section 2.1.3.4.1",
        "Only version 1.9.x",
        "Score 6-3-6-4-7-5",
        "Formation 4-1-2-1-2",
        "In /a/b/c/d",
        "Sizes S/M/L/XL",
        "Classes A/B/C on M-W-F",
        "월/수/금",
        "My lucky numbers 1 - 6 - 9 - 3 - 8 - 6 - 2 and so on, do you see them here today",
        "Answers A - B - D - C",
        "We meet on S - M - T - W - T - F - S and also on holidays in the evening if you like",
        "Keys T - S - N - R - T - S - K of all the locks that there are in the old house",
    ],
)
def test_labels_scales_and_versions_stay(text: str) -> None:
    assert fold_text(text) == text


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("V _ 1, c - o'd - 1 ' n", "V1cod1n"),
        ("c a l l n o w", "Call now"),
        ("X A N A X", "Xanax"),
        ("v.i.a.g.r.a", "Viagra"),
        ("w/i/n p/r/1/z/e n/o/w/!", "Win prize now!"),
        ("c-a-s-h, h.3.r.3", "Cash, here"),
        ("п-р-и-в-е-т", "привет"),
        ("See n - u - m - m - b - e - r", "See nummber"),
        ("Low cost V - I - @ - g - r - a", "Low cost VI@gra"),
        ("go to h - t - t - p - : - / - / - a - . - c - o", "Go to http://a.co"),
        (
            "Call 0-8-0-0-1-2-3-4-5-6, 0 8 0 0 1 2 3 or 5.5.5.0.1.6.8",
            "Call 0800123456, 0800123 or 5550168",
        ),
    ],
)
def test_words_and_telephone_numbers_are_put_together(disguised: str, plain: str) -> None:
    assert fold_text(disguised) == plain


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("Ch'eck out my cha’nnel", "Check out my channel"),
        ("They've come to for'get, li've or gi`ve", "They've come to forget, live or give"),
        ("Mon*ey", "Money"),
        ("Cl*ick h|ere for fr%e, sweets", "Click here for free, sweets"),
        ("No obli_gation", "No obligation"),
        ("A FR|EE gift", "A FREE gift"),
    ],
)
def test_one_mark_where_no_word_has_one_is_left_out(disguised: str, plain: str) -> None:
    assert fold_text(disguised) == plain


@pytest.mark.parametrize(
    "text",
    [
        "We're here, they'll do, get'em, shouldn't've",
        "I had it, you'nt",
        "Call on_line, what+ever, so=me",
        "At https://a.example/fr_ee?pay_ment=2&acc_ount, me@mon_ey.example",
        "The fi_rst.example and l'amour, rock'n'roll",
    ],
)
def test_marks_that_words_have_stay(text: str) -> None:
    assert fold_text(text) == text


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("Dude · check · out · this", "Dude check out this"),
        ("Go | register | ;) | today", "Go register ;) today"),
        ("“Sub” “to” “my” “page!”", "Sub to my page!"),
        ('"Subscribe"', "Subscribe"),
        ("SSuubbssccrriibbee mmyy ccaatt", "Subscribe my cat"),
        ("Likes hhhttttttppp://aaa.ccc", "Likes http://a.c"),
        ("I sub and subsc ribe (comm ent)!", "I sub and subscribe (comment)!"),
        ("c h e c k o u t m y n e w v i d e o", "Check out my new video"),
        (
            "Now call 0 - 8 - 7 - 1 - 4 - 7 - 1 - 2 - . and ask for us",
            "Now call 08714712. and ask for us",
        ),
        ("免 費 無 限 次, ひ ら が な", "免費無限次, ひらがな"),
        ("Win 免 費 無 限 now", "Win 免費無限 now"),
    ],
)
def test_short_texts_are_read_where_all_of_them_is_disguised(disguised: str, plain: str) -> None:
    assert fold_text(disguised) == plain


@pytest.mark.parametrize(
    "text",
    [
        "Home > Shoes",
        "Yes / no / maybe and more / or less",
        "- - - Original message - - -",
        "'X' 'Y' 'Z'",
        '"Yes" "no" and "maybe"',
        "Mr van der Berg wrote it",
        "La cita del lunes es a las tres de la tarde",
        "See the aabb and the ooo",
        "I will come ttoo",
        "* * * * * * *",
        "It is a bout that",
        "The de sign of it",
        "一 二 三",
    ],
)
def test_short_texts_stay_where_some_of_them_is_like_a_disguise(text: str) -> None:
    assert fold_text(text) == text
