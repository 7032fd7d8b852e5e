"""Honest text in other languages is read as it was typed."""

import pytest

from model.fold import fold_text


@pytest.mark.parametrize(
    "text",
    [
        "Che fa il nonno? Ma il gatto mangia?",
        "Je ne peux pas te parler, tu ne comprends pas",
        "Wo men jian mian ba, wo men zai Lou xia",
        "Ya no te veo, y se que no te vas",
        "Kijk wat er is en wat er gebeurt, hou op",
    ],
)
def test_words_of_other_languages_are_not_joined_to_english_ones(text: str) -> None:
    assert fold_text(text) == text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("It\u00b4s late and it\u00b4s low", "It's late and it's low"),
        ("You\u00b4re late, don\u00b4t wait", "You're late, don't wait"),
        ("L\u00b4école, j\u00b4arrive", "L'école, j'arrive"),
    ],
)
def test_an_accent_of_its_own_is_an_apostrophe(typed: str, read: str) -> None:
    assert fold_text(typed) == read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("los ninos y los abuelos. vale", "Los ninos y los abuelos. Vale"),
        ("kopi dan gula", "Kopi dan gula"),
        ("vi ses i morgen i skolen", "Vi ses i morgen i skolen"),
        ("JA I TY IDZIEMY DO KINA", "Ja i ty idziemy do kina"),
        ("it is j'ai, so i say in london", "It is j'ai, so I say in London"),
        ("for (i=0;i<a;i++) see(i)", "For (i=0;i<a;i++) see(i)"),
        ("i <3 it (so do i), see(i)", "I <3 it (so do I), see(i)"),
    ],
)
def test_names_and_i_get_the_capitals_of_english_in_english_alone(typed: str, read: str) -> None:
    assert fold_text(typed) == read


@pytest.mark.parametrize(
    "text",
    [
        "Thấy chưa? Sông Hồng, thế mà thân thật",
        "Cần bút màu, thế đây thêm ít nhé",
        "Célébration à l'hôtel: réservation, présentation, conférence",
        "Réunion reportée. Présentation à préparer. Décision finale lundi",
    ],
)
def test_accents_of_french_and_vietnamese_stay(text: str) -> None:
    assert fold_text(text) == text


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("Fréé móney nów", "Free money now"),
        ("Gẹt yoụr prịze tọday", "Get your prize today"),
        ("Cáll thé númbér", "Call the number"),
    ],
)
def test_accents_put_on_english_are_left_out(disguised: str, plain: str) -> None:
    assert fold_text(disguised) == plain
