"""Words with marks on them, in boxes, with a strange letter among theirs or drawn out are read."""

import pytest

from model.fold import fold_text

SPAM = "Claim your £500 prize & win 2 weeks - call 5 pm, now!"
WORDS = SPAM.split()


@pytest.mark.parametrize(
    "disguised",
    [
        " ".join(f"·{word}" for word in WORDS),
        " ".join(f"{word}♥♥" for word in WORDS),
        " ".join(f"❤️{word}❤️" for word in WORDS),
        " ".join(f"`{word}" for word in WORDS),
        "•".join(WORDS),
        " ".join(f"「{word}」" for word in WORDS),
        " ".join(f"《{word}》" for word in WORDS),
        " ".join("".join(f"[{sign}]" for sign in word) for word in WORDS),
        "".join(f"『{sign}』" if sign.isalpha() else sign for sign in SPAM),
        " ".join("ㅡ".join(word) for word in WORDS),
        " ".join(f"ー{'ー'.join(word)}ー" for word in WORDS),
        " ".join("\u0640".join(word) for word in WORDS),
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
        "Sooooo goooood to see you",
        "Wwww xxxx aaaa hmmmm brrrr zzzzz free caaash nooow",
        "The chords C-E-G, A-C-E and D - F, A - C",
        "So a*b*c and x*y*z",
    ],
)
def test_honest_text_stays(text: str) -> None:
    assert fold_text(text) == text
