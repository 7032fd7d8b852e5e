"""English in alphabets that look a little like the Latin one."""

import pytest

from model.alphabets import _ALPHABETS, read_alphabets
from model.fold import fold_text

SPAM = "claim your free prize now click here to buy cheap viagra and win cash"
# A letter that another alphabet has for another letter.
MOST_OTHERS = 2


@pytest.mark.parametrize("alphabet", _ALPHABETS)
def test_english_is_read_in_each_alphabet(alphabet: str) -> None:
    assert len(alphabet) == 26
    disguised = "".join(alphabet[ord(c) - ord("a")] if c.isalpha() else c for c in SPAM)
    words = zip(fold_text(disguised).lower().split(), SPAM.split(), strict=True)
    assert sum(one != other for one, other in words) <= MOST_OTHERS


@pytest.mark.parametrize(
    "text",
    [
        "Вы получили перевод, но нам нужен ваш ответ до конца дня",
        "Καλημέρα, σας στέλνω το τιμολόγιο και θα τα πούμε αύριο το πρωί",
        "สวัสดีครับ พรุ่งนี้เจอกันที่ร้านกาแฟตอนสิบโมงเช้านะครับ",
        "明日の朝、山田さんと千葉で会いましょう。乙女座の人も来ます",
        "Køb nu og få et gratis øl for din køkken og søn, der bor på øen",
        "Było już późno, ale łódź wciąż płynęła w górę rzeki",
        "Добрый день! Запись вебинара:https://example.com/video/online/school/lesson Ольга",
        "您的快递几分钟后送达,https://www.example.com/track/order/status/home,山东工厂",
        "Vi holder møde før frokost, og så kan vi løse det",
        "It costs ₦5000, about ₱190 or ₩4,500; the Ø of the pipe is 50 mm",
        "ልጆች ዛሬ ትምህርት ቤት ሄዱ፤ ነገ ይመለሳሉ",
    ],
)
def test_other_languages_and_signs_stay(text: str) -> None:
    assert read_alphabets(text) == text


@pytest.mark.parametrize(
    ("turned", "plain"),
    [
        (
            "¡ʍou ǝsn ʇɐɥʇ 'uoᴉllᴉɯ 0Ɛ$ uᴉʍ\nǝɹǝɥ ʞɔᴉlɔ",
            "win $30 million, that use now!\nclick here",
        ),
        ("uǝzʇɐʞ pun ǝpunɥ ǝlǝᴉʌ", "uǝzʇɐʞ pun ǝpunɥ ǝlǝᴉʌ"),
        ("The word is said [wɔːtə], and then ǝǝɹɟ in the end", None),
        ("ǝǝɹɟ ʍou", None),
    ],
)
def test_english_is_read_upside_down(turned: str, plain: str | None) -> None:
    assert read_alphabets(turned) == (plain or turned)
