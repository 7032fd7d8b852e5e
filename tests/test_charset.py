"""Charsets by their labels: those that Python knows, and any number of those that nobody knows."""

import encodings

import pytest

from model.charset import decode_bytes


def test_labels_that_nobody_knows_are_not_kept() -> None:
    decode_bytes(b"\xe4", "")  # what detection looks up
    kept = len(vars(encodings)["_cache"])
    for number in range(300):
        decode_bytes(b"\xe4", f"x-{number}")
        decode_bytes(b"\xe4", f"iso8859{'-' * (1 + number % 30)}15{'_' * (number % 7)}")
        decode_bytes(f"<meta charset=y{number}>\xe4".encode("latin-1"), "", is_html=True)
    assert len(vars(encodings)["_cache"]) <= kept + 1  # iso8859_15


@pytest.mark.parametrize("label", ["utf-16", "utf-16be", "unicode"])
def test_a_page_that_says_in_ascii_that_it_is_no_ascii_is_utf8(label: str) -> None:
    for text in ("\xa35 now", "\xa35 now!"):
        page = f'<meta charset="{label}"><p>{text}</p>'
        assert decode_bytes(page.encode(), "", is_html=True) == (page, "utf-8")


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("koi8_u", b"\xa4\xa6", "єі"),
        ("cp037", b"\x88\x89", "hi"),
        ("cp737", b"\x98\x99", "αβ"),
        ("hz", b"~{<:Ky2;~}", "己所不"),
        ("mac-romanian", b"\xaf\xbf", "Șș"),
        ("ISO_646.irv_1991", b"hi\0", "hi\0"),
        ("ansi_x3.4_1968", b"hi\0", "hi\0"),
        ("iso--8859--15", b"\xa4", "€"),
        ("latin-1", "Grüße – 5 €".encode(), "Grüße – 5 €"),
        ("latin_1", b"\x80 \x93a\x94", "€ “a”"),
        ("x-mac-cyrillic", "Здравствуйте".encode("mac-cyrillic"), "Здравствуйте"),
        ("X-Mac-CE", "Dvořák".encode("mac-latin2"), "Dvořák"),
        # No charset of mail; no mail program would unpack it.
        ("unicode_escape", b"\\x68\xe4", r"\x68ä"),
    ],
)
def test_charsets_of_python_are_known_however_they_are_spelled(
    label: str, data: bytes, text: str
) -> None:
    assert decode_bytes(data, label)[0] == text


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("iso-2022-jp", "v\x1b(Bi\x1b(Jagra at the café around the corner, cheap", "viagra"),
        ("iso-2022-jp", "v\x1b(Bi, café", "v\x1b(Bi, café"),
        ("utf-7", "v+AGk-agra at the café around the corner, cheap", "viagra"),
        ("hz-gb-2312", "v~~i~~agra at the café around the corner, cheap", "v~i~agra"),
        ("utf-7", "+2AA-half a surrogate", "+2AA-half a surrogate"),
        ("utf-7", "1 + 1 is the prix d’ami of a café à la mode", "1 + 1 is the prix d’ami"),
    ],
)
def test_a_stray_character_does_not_hide_a_seven_bit_charset(
    label: str, data: str, text: str
) -> None:
    assert decode_bytes(data.encode(), label)[0].startswith(text)


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("iso-2022-jp", b'\x1b$B-!-j\x1b(B 1\x1b$B-"$G$9\n-\x1b(B', "①㈱ 1②です\n-"),
        ("iso-2022-jp", b"\x1b$B-!!V\x1b(I6<^\x1b(B ok", "①「ｶｼﾞ ok"),
        (
            "euc-jp",
            b"\xad\xa1\xad\xea\xa4\xb3\x8e\xb6\x8e\xde\x8f\xb0\xa1 \xad\xb7\xa4\xf3",
            "①㈱こｶﾞ丂 Ⅲん",
        ),
        ("euc-jp", b"\xad\xa1" + 30 * b"\xa4\xb3" + b"\xfe\xa1\x8e", f"①{30 * 'こ'}\ufffd\ufffd"),
        ("shift_jis", "①㈱テスト②Ⅲ".encode("cp932"), "①㈱テスト②Ⅲ"),
        ("ks_c_5601-1987", "됬습니다 햏".encode("cp949"), "됬습니다 햏"),
        ("big5", "恭喜中獎 €500 碁".encode("cp950"), "恭喜中獎 €500 碁"),
        ("big5", "恭喜嘅".encode("big5hkscs"), "恭喜嘅"),
        ("gb2312", "镕 €".encode("gb18030"), "镕 €"),
        ("windows-874", "“สวัสดี” €5… it’s".encode("cp874"), "“สวัสดี” €5… it’s"),
        ("tis-620", "it’s “ดี”".encode("cp874"), "it’s “ดี”"),
        ("tis-620", b"v\x81i\x81a", "v\x81i\x81a"),  # as in browsers
    ],
)
def test_what_windows_added_to_a_charset_is_read(label: str, data: bytes, text: str) -> None:
    assert decode_bytes(data, label)[0] == text


@pytest.mark.parametrize("label", "1 2 3 2004 ext ms".split())
def test_all_kinds_of_iso_2022_jp_are_read(label: str) -> None:
    data = b"\x1b$B$3$s$K$A$O\x1b(B \x1b$B-!-j\x1b(B"
    assert decode_bytes(data, f"iso-2022-jp-{label}")[0] == "こんにちは ①㈱"


@pytest.mark.parametrize("label", ["", "us-ascii", "cp50220", "cp50221", "x-unknown"])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"Hi \x1b$B$3$s$K$A$O\x1b(B \x1b$B-!-j", "Hi こんにちは ①㈱"),
        (b"\x1b$@$3$s\r\n\x1b(I6^\x1b(J!", "こん\r\nｶﾞ!"),
        # Whoever shows that does not show Chinese characters.
        (b"\x1b$B$3$s\x1b(B \x1b$Bcash prize", "\x1b$B$3$s\x1b(B \x1b$Bcash prize"),
        (b"\x1b$Bcas\x1b(B", "\x1b$Bcas\x1b(B"),
    ],
)
def test_iso_2022_jp_is_known_by_its_pairs(label: str, data: bytes, text: str) -> None:
    assert decode_bytes(data, label)[0] == text


def test_iso_2022_jp_is_not_looked_for_under_another_charset_s_label() -> None:
    for label in ("utf-8", "koi8-r"):
        assert decode_bytes(b"\x1b$B$3$s\x1b(B", label)[0] == "\x1b$B$3$s\x1b(B"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("It’s free: £1,000".encode("cp1252"), "It’s free: £1,000"),
        ("It’s free – ’".encode()[:-1], "It’s free – \ufffd"),  # cut off
        (b"\xff\xfebuy now \xe4", "ÿþbuy now ä"),  # UTF-16 without any NUL
    ],
)
def test_what_is_no_utf8_is_not_read_as_such(data: bytes, text: str) -> None:
    assert decode_bytes(data, "")[0] == text


def test_korean_without_a_charset_is_read() -> None:
    korean = "안녕하세요, 내일 오후 세 시에 회의가 있습니다."
    for label in ("", "utf-8"):
        assert decode_bytes(korean.encode("euc_kr"), label)[0] == korean
    for western in ("Ärger über Öl: ÄÖÜ äöü ß", "ÇA VA ÊTRE ÉTÉ À ÀÉ", "Señor Muñoz, ¡¿qué?!"):
        assert decode_bytes(western.encode("cp1252"), "")[0] == western


@pytest.mark.parametrize("label", ["cp037", "IBM500", "ebcdic-cp-be", "cp1140"])
def test_ascii_is_no_mainframe_s_text(label: str) -> None:
    assert decode_bytes(b"Click here for a free caf\xc3\xa9", label) == (
        "Click here for a free café",
        "utf-8",
    )


def test_utf_16_has_nuls_or_hardly_any_ascii() -> None:
    assert decode_bytes(b"Click here for it\xa0now", "utf-16")[0] == "Click here for it\xa0now"
    chinese = "免费领取奖金请立即点击"
    assert decode_bytes(chinese.encode("utf-16-le"), "utf-16le") == (chinese, "utf-16-le")
