"""Words with marks on them, in boxes, with a strange letter among theirs or drawn out are read."""

import pytest

from model.fold import fold_text
from model.marked import CLOSING_BRACKETS, OPENING_BRACKETS, without_marks_on_words

SPAM = "Claim your £500 prize & win 2 weeks - call 5 pm, now!"
WORDS = SPAM.split()
PAIRS = [*zip(OPENING_BRACKETS, CLOSING_BRACKETS, strict=True)]


@pytest.mark.parametrize(
    "disguised",
    [
        " ".join(f"·{word}" for word in WORDS),
        " ".join(f"{word}♥♥" for word in WORDS),
        " ".join(f"❤️{word}❤️" for word in WORDS),
        " ".join(f"`{word}" for word in WORDS),
        "•".join(WORDS),
        *(" ".join(f"{o}{word}{c}" for word in WORDS) for o, c in PAIRS),
        *("".join(f"{o}{sign}{c}" if sign.isalpha() else sign for sign in SPAM) for o, c in PAIRS),
        " ".join("".join(f"[{sign}]" for sign in word) for word in WORDS),
        " ".join("ㅡ".join(word) for word in WORDS),
        " ".join("ㅡㅡ".join(word) for word in WORDS),
        " ".join(f"ー{'ー'.join(word)}ー" for word in WORDS),
        " ".join("\u0640".join(word) for word in WORDS),
        " ".join(f"{mark}{word}" for word, mark in zip(WORDS, "🔥💰⭐" * 9, strict=False)),
        "... ".join(WORDS),
        " ".join(f"{n}. {word}" for n, word in enumerate(WORDS, 1)),
        " ".join(f"{n}){word}" for n, word in enumerate(WORDS, 1)),
        "C★laim yo★ur £5★00 pri★ze & wi★n 2 we★eks - ca★ll 5 p★m, n★ow!",
        "".join(f"&#{ord(sign)}" for sign in SPAM),
        "<wbr>".join(SPAM),
        SPAM.replace("Claim", "</font><font color=red>".join("Claim")),
        " ".join("<!-- -->".join(word) if word.isalpha() else word for word in WORDS),
        "Claaaim yourrr £500 prrrize & winnnn 2 weeeeks - callll 5 pmmm, noooow!",
    ],
)
def test_words_are_read_without(disguised: str) -> None:
    assert fold_text(disguised) == SPAM


@pytest.mark.parametrize(
    "text",
    [
        "• Milk\n• Bread",
        "·Milk ·Bread ·Tea",
        "We met » in the park » at six » on Friday » for tea and cake and a long walk",
        "So *p = *q; *r = x; *s = y; then we are all done with it, so please have a look",
        "L’eau d’or qu’il s’est d’ailleurs l’amour d’une",
        "It’s what I’d say you’ll see we’re",
        "1⁄2 1⁄4 3⁄4 2×3×4×5×6",
        "[1] [2] [3] [x] [z] [y] done as we said, so that is all for this week",
        "So f(a)(b)(c)(d)(e)(f)(g)(h) is what the curried function of eight arguments is called",
        "Hawaiʻi",
        "AとBとCとDとEとF",
        "AppleとGoogleとAmazonとMicrosoft",
        "Bu oʻzbek tili, gʻoʻza va toʻgʻri boʻladi",
        "It was reeeally goooood to see you there with your mother before the long summer",
        "Toとday newとs cashと xqとzz qwとrr vvとkk jjとpp bbとnn ddとcc ggとhh wwとtt",
        "Wwww xxxx aaaa hmmmm brrrr zzzzz free caaash nooow",
        "The chords C-E-G, A-C-E and D - F, A - C",
        "So a*b*c and x*y*z",
        "Grep|sort|uniq|head|tail",
        "1. Milk 2. Bread 3. Tea",
        "1. Milk 2. Bread 3. Tea 5. Eggs",
        "2. Milk 3. Bread 4. Tea 5. Eggs",
        "1. Happy face 2. Sad face 3. Face 4. Happy",
        "[X] [y] [z] [1]",
        "Ok... see you at home... then we can talk about the plan for the week...",
        "AT&#T, R&#x and a&b;c",
        "The word<!-- hidden words -->goes on",
    ],
)
def test_honest_text_stays(text: str) -> None:
    assert fold_text(text) == text


def test_drawn_out_words_are_the_ones_that_have_as_many_letters() -> None:
    assert fold_text("Diiiner caaash priiize xxx") == "Diner cash prize xxx"


def test_boxes_stay_where_texts_are_split_by_what_they_say() -> None:
    assert fold_text("[x][1][2][3][4][5][6][7]", typing=False) == "[x][1][2][3][4][5][6][7]"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("♥win ♥my ♥car ♥now", "win my car now"),
        ("♥win ♥my ♥car now", "♥win ♥my ♥car now"),
        ("♥win ♥my ♥car ♥now or see us all", "win my car now or see us all"),
        ("♥win ♥my ♥car ♥now or see us all here", "♥win ♥my ♥car ♥now or see us all here"),
        ("win♥♥♥♥ my♥ car♥ now★★", "win my car now"),
        (".♥5,♥5.♥5,♥5", ". 5, 5. 5, 5"),
        ("win|my|car|bus|now♥then", "win|my|car|bus|now♥then"),
        ("win♥my♥car|bus♥now♥then", "win my car|bus now then"),
    ],
)
def test_at_least_four_marks_on_at_least_half_of_the_words_go(text: str, plain: str) -> None:
    assert without_marks_on_words(text) == plain
