"""Raw messages: what is read of them, piece by piece."""

import base64

import pytest

from model.fields import content_type
from model.mail import message_to_text

HTML_WORDS = "<p>one two three four five six seven eight nine ten eleven</p>"
WORDS = "one two three four five six seven eight nine ten eleven"


def mail(body: str | bytes, *fields: str, subject: str = "Hello") -> bytes:
    """A message with a subject, these further fields and this body."""
    head = "\r\n".join([f"Subject: {subject}", *fields]) + "\r\n\r\n"
    return head.encode() + (body if isinstance(body, bytes) else body.encode())


def multipart(kind: str, *parts: str) -> bytes:
    """A message of that multipart kind; each part is given with its own fields."""
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--\r\n"
    return mail(body, f'Content-Type: multipart/{kind}; boundary="b"')


def plain(text: str, *fields: str) -> str:
    return "\r\n".join(["Content-Type: text/plain", *fields]) + f"\r\n\r\n{text}"


def html(text: str) -> str:
    return f"Content-Type: text/html\r\n\r\n{text}"


def read(raw: bytes) -> str:
    """The body that is read of a message whose subject is Hello."""
    text = message_to_text(raw).text
    assert text.startswith("Hello\n\n") or text == "Hello"
    return text.removeprefix("Hello").strip()


def test_subject_blank_line_and_body() -> None:
    message = message_to_text(mail("Line one\r\nline two\r\n", "From: a@example.org"))
    assert message.text == "Hello\n\nLine one\nline two"
    assert message.subject == "Hello"
    assert message.parts == ("text/plain",)
    assert message.charset == "ascii"
    assert not message.truncated


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?iso-8859-1?Q?caf=E9_au_lait?=", "café au lait"),
        ("=?utf-8?b?w?= =?utf-8?b?w7w?=", "ü"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
        ("folded\r\n\tsubject", "folded subject"),
        ("=?x-nobody?q?plain?=", "plain"),
        ("=?utf-8?x?what?=", "=?utf-8?x?what?="),
        ("naked ünïcode", "naked ünïcode"),
        ("=?utf-8*de?q?lang?=", "lang"),
        ("=?utf-8?Q?Free?_=57hy_not??= =?utf-8?q??=", "Free? Why not?"),  # as in mutt
        ("=?utf-8?q?a?=b=?utf-8?q?c?=", "abc"),
    ],
)
def test_subject_is_decoded(subject: str, expected: str) -> None:
    assert message_to_text(mail("", subject=subject)).text == expected


@pytest.mark.parametrize(
    ("charset", "subject"),
    [
        ("gbk", "免费领取奖金"),
        ("euc-kr", "[광고]명품향수"),
        ("big5", "認養推荐偶像： Life-Time upgrades"),
        ("windows-1251", "Выигрыш"),
    ],
)
def test_bytes_in_a_subject_are_of_the_body_s_charset(charset: str, subject: str) -> None:
    raw = f"Subject: {subject}\nContent-Type: text/plain; charset={charset}\n\n{subject}"
    assert message_to_text(raw.encode(charset)).subject == subject


@pytest.mark.parametrize("body", [b"hello", b"\xfc"])
def test_body_in_a_western_charset_says_nothing_of_the_subject(body: bytes) -> None:
    subject = "Выигрыш для вас сегодня"
    raw = b"Content-Type: text/plain; charset=iso-8859-1\nSubject: " + subject.encode("cp1251")
    assert message_to_text(raw + b"\n\n" + body).subject == subject


@pytest.mark.parametrize(
    ("declared", "data", "expected"),
    [
        ("utf-8", "schöne Grüße".encode(), "schöne Grüße"),
        ("iso-8859-1", "schöne Grüße".encode("latin-1"), "schöne Grüße"),
        ("iso-8859-1", "schöne Grüße".encode(), "schöne Grüße"),
        ("us-ascii", "schöne Grüße".encode(), "schöne Grüße"),
        ("utf-8", "schöne Grüße aus Köln".encode("latin-1"), "schöne Grüße aus Köln"),
        ("no-such-charset", "schöne Grüße".encode(), "schöne Grüße"),
        ("base64", b"c2Now7ZuZQ==", "c2Now7ZuZQ=="),
        ("utf-16", b"plain ascii all the same", "plain ascii all the same"),
        ("utf-16", "with a mark".encode("utf-16"), "with a mark"),
        ("utf-16le", "without a mark".encode("utf-16-le"), "without a mark"),
        ("utf-16", "without a mark".encode("utf-16-be"), "without a mark"),
        ("utf-7", b"Hi +AKM-100", "Hi £100"),
        ('" utf-7"', b"Hi +AKM-100", "Hi £100"),
        ("x-unicode-2-0-utf-7", b"Hi +AKM-100", "Hi £100"),
        ("csUnicode11UTF7", b"Hi +AKM-100", "Hi £100"),
        ("koi8-r", "привет друзья".encode("koi8-r"), "привет друзья"),
        ("gb2312", "你好世界".encode("gb18030"), "你好世界"),
        ("iso-2022-jp", "こんにちは".encode("iso-2022-jp"), "こんにちは"),
        ("windows-1252", b"it\x92s \x80100", "it’s €100"),
    ],
)
def test_charset_is_honoured_and_lies_are_seen_through(
    declared: str, data: bytes, expected: str
) -> None:
    raw = mail(data, f"Content-Type: text/plain; charset={declared}")
    assert read(raw) == expected


def test_transfer_encodings() -> None:
    coded = base64.encodebytes(b"cash prize " * 20).decode()
    assert read(mail(coded, "Content-Transfer-Encoding: base64")) == ("cash prize " * 20).strip()
    assert read(mail(coded[:-3], "Content-Transfer-Encoding: BASE64")).startswith("cash prize")
    quoted = mail("win=20a soft=\r\n break =3D", "Content-Transfer-Encoding: quoted-printable")
    assert read(quoted) == "win a soft break ="


def test_comments_before_a_value_are_skipped() -> None:
    """RFC 822 has them anywhere."""
    coded = base64.encodebytes(b"<b>Ca</b>sh").decode()
    fields = "Content-Type: (a) (b)\r\n text/html", "Content-Transfer-Encoding: (c)base64"
    assert read(mail(coded, *fields)) == "Cash"
    assert message_to_text(mail("", subject="(1) new")).subject == "(1) new"


def test_parts_that_are_encoded_together_are_split() -> None:
    body = f"--b\r\n{html('<b>Ca</b>sh')}\r\n--b--\r\n"
    fields = "Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: base64"
    assert read(mail(base64.encodebytes(body.encode()), *fields)) == "Cash"


def test_flowed_lines_are_joined() -> None:
    field = "Content-Type: text/plain; format=flowed"
    assert read(mail("one \r\ntwo\r\n\r\nthree\r\n", field)) == "one two\n\nthree"
    assert read(mail("over \r\nflow\r\n", field + "; delsp=yes")) == "overflow"
    assert read(mail("> a \r\n> b\r\nc\r\n-- \r\nme", field)) == "> a b\nc\n--\nme"
    assert read(mail("> a \r\nb\r\n", field)) == "> a\nb"


def test_html_is_read_where_it_carries_the_words() -> None:
    assert read(multipart("alternative", plain("decoy"), html(HTML_WORDS))) == WORDS
    assert read(multipart("alternative", html(HTML_WORDS), plain("one two"))) == WORDS


def test_last_alternative_is_read_if_it_says_more() -> None:
    """Thunderbird, Apple Mail and mutt show the last of them that they can, Outlook the HTML."""
    few = html("<p>buy here</p>")
    assert read(multipart("alternative", plain("decoy"), few)) == "decoy\n\nbuy here"
    assert read(multipart("alternative", plain("buy it here"), few)) == "buy it here"
    assert read(multipart("alternative", html(HTML_WORDS), few)) == f"{WORDS}\n\nbuy here"
    assert read(multipart("alternative", html(HTML_WORDS), plain("seen"))) == f"{WORDS}\n\nseen"
    mixed = 'Content-Type: multipart/mixed; boundary="i"\r\n\r\n' + "".join(
        f"--i\r\n{part}\r\n" for part in (html("<p>hi</p>"), plain("seen"))
    )
    assert read(multipart("alternative", plain("decoy"), mixed)) == "decoy\n\nhi\n\nseen"


@pytest.mark.parametrize("kind", ["enriched", "x-unknown", "css"])
def test_unknown_text_is_shown_as_plain(kind: str) -> None:
    """RFC 2046, 4.1.4; mutt and Thunderbird do so."""
    part = f"Content-Type: text/{kind}\r\n\r\nseen"
    assert read(multipart("mixed", plain("first"), part)) == "first\n\nseen"
    assert read(multipart("alternative", plain("seen too"), part)) == "seen too"


def test_enriched_text_is_read_without_its_marks() -> None:
    text = "Content-Type: text/enriched\r\n\r\nca<bold><fontfamily><param>Times</param>sh"
    assert read(multipart("mixed", f"{text}</fontfamily></bold>")) == "cash"


def test_text_for_programs_is_read_only_if_there_is_nothing_else() -> None:
    card = "Content-Type: text/vcard\r\n\r\nNOTE:Win"
    assert read(multipart("alternative", plain("text"), card)) == "text"
    assert read(multipart("mixed", card)) == "NOTE:Win"


def test_short_html_is_read_wherever_it_stands() -> None:
    """Gmail and Outlook show it, whatever plain text comes last."""
    assert read(multipart("alternative", html("<p>buy here</p>"), plain("decoy"))) == (
        "decoy\n\nbuy here"
    )
    parts = html(HTML_WORDS), html("<p>buy here</p>"), plain("one two")
    assert read(multipart("alternative", *parts)) == f"{WORDS}\n\nbuy here"


def test_plain_is_read_where_the_html_says_little() -> None:
    assert read(multipart("alternative", plain("the text"), html("<img src=x>"))) == "the text"
    assert read(multipart("alternative", html("<p>a few words</p>"))) == "a few words"


def test_mixed_parts_follow_one_another_without_attachments() -> None:
    raw = multipart(
        "mixed",
        plain("first"),
        html("<b>second</b>"),
        plain("third", "Content-Disposition: attachment; filename=a.txt"),
        "Content-Type: application/pdf\r\n\r\n%PDF",
    )
    assert read(raw) == "first\n\nsecond"
    assert message_to_text(raw).parts == ("text/plain", "text/html")


def test_related_shows_its_root_only() -> None:
    assert read(multipart("related", html("<p>seen</p>"), plain("good words"))) == "seen"


def test_related_names_its_root() -> None:
    """Thunderbird shows the part that ``start`` names, others the first."""
    parts = [f"Content-ID: <{n}>\r\n{plain(f'text {n}')}" for n in range(3)]
    raw = multipart('related; start="<N>"', *parts)
    assert read(raw.replace(b"<N>", b"<0>")) == "text 0"
    assert read(raw.replace(b"<N>", b"<2>")) == "text 2\n\ntext 0"
    assert read(raw.replace(b"<N>", b"<3>")) == "text 0"


def test_attached_text_is_read_only_if_there_is_nothing_else() -> None:
    """Thunderbird and Apple Mail show it below; where it stands alone, it is the message."""
    attached = plain("attached", "Content-Disposition: attachment")
    assert read(multipart("mixed", plain("text"), attached)) == "text"
    assert read(multipart("mixed", plain(" "), attached)) == "attached"
    assert read(multipart("mixed", attached)) == "attached"


def test_nested_message_is_read_unless_it_is_attached_or_reported() -> None:
    message = "Content-Type: message/rfc822\r\n{}\r\nSubject: inner\r\n\r\ninner text"
    forwarded = message.format("")
    attached = message.format("Content-Disposition: attachment\r\n")
    shown = "inner\n\ninner text"
    assert read(multipart("mixed", plain("see below"), forwarded)) == f"see below\n\n{shown}"
    assert read(multipart("mixed", plain("see below"), attached)) == "see below"
    assert read(multipart("report", plain("not delivered"), forwarded)) == "not delivered"
    for kind, inner in (("mixed", forwarded), ("mixed", attached), ("report", forwarded)):
        assert read(multipart(kind, plain(" "), inner)) == shown
    digest = multipart("digest", "\r\nSubject: inner\r\n\r\ninner text")
    assert read(digest) == shown
    bare = "Content-Type: message/rfc822\r\n\r\nSubject: win =?utf-8?q?c=C3=A1sh?=\r\n\r\n"
    assert read(multipart("mixed", plain("see below"), bare)) == "see below\n\nwin cásh"


def test_doubled_boundaries_are_read_both_ways() -> None:
    body = f"--a\r\n\r\ndecoy\r\n--a--\r\n--b\r\n{html(HTML_WORDS)}\r\n--b--"
    for first, last in (("a", "b"), ("b", "a")):
        field = f"Content-Type: multipart/mixed; boundary={first}; boundary={last}"
        assert set(read(mail(body, field)).split("\n\n")) == {"decoy", WORDS}


def test_missing_and_wrong_boundaries() -> None:
    body = "--real\r\nContent-Type: text/plain\r\n\r\ntext\r\n--real--\r\n"
    assert read(mail(body, "Content-Type: multipart/mixed")) == "text"
    assert read(mail(body, "Content-Type: multipart/mixed; boundary=other")) == "text"
    assert read(mail("no parts at all", "Content-Type: multipart/mixed; boundary=b")) == (
        "no parts at all"
    )
    unclosed = "--b\r\nContent-Type: text/plain\r\n\r\ntext"
    assert read(mail(unclosed, "Content-Type: multipart/mixed; boundary=b")) == "text"
    split = 'Content-Type: multipart/mixed; boundary*0="re"; boundary*1="al"'
    assert read(mail(body, split)) == "text"
    bare = body.replace("Content-Type: text/plain", "")
    coded = "Content-Type: multipart/mixed; boundary*=us-ascii'en'r%65al"
    assert read(mail(bare, coded)) == "text"
    dashes = body.replace("--real", "------=_Next")
    assert read(mail(dashes, "Content-Type: multipart/mixed; boundary=other")) == "text"


@pytest.mark.parametrize("end", [", x", "(x)", " (x)", " x", ";;"])
def test_type_ends_where_mail_programs_end_it(end: str) -> None:
    assert read(mail("<b>Ca</b>sh", f"Content-Type:  Text/HTML{end}")) == "Cash"


@pytest.mark.parametrize("field", ['"text/html"', '"text/html', '"text/html; charset=utf-8"'])
def test_type_in_quotes_is_that_type(field: str) -> None:
    assert read(mail("<b>Ca</b>sh", f"Content-Type: {field}")) == "Cash"


@pytest.mark.parametrize(
    ("declared", "read"),
    [
        ("text/\udcff", "text/plain"),
        ("text/", "text/plain"),
        ("text/x/y", "text/plain"),
        ("=?utf-8?q?image/png?=", "text/plain"),
        (f"text/{'x' * 127}", f"text/{'x' * 127}"),
        (f"text/{'x' * 128}", "text/plain"),
    ],
)
def test_type_that_is_none_counts_as_plain(declared: str, read: str) -> None:
    message = message_to_text(
        f"Content-Type: {declared}\n\n{WORDS}".encode(errors="surrogateescape")
    )
    assert message.parts == (read,)
    assert message.text == WORDS


@pytest.mark.parametrize("kind", ["\udcff", "", "x" * 128])
def test_multipart_of_no_type_is_split_all_the_same(kind: str) -> None:
    raw = multipart("KIND", html(HTML_WORDS)).replace(
        b"KIND", kind.encode(errors="surrogateescape")
    )
    assert read(raw) == WORDS


def test_parameters_are_those_that_come_first_and_pieces_of_one_are_joined() -> None:
    field = b"text/plain; b=1; b=2; a*0=\"x'%41\"; a*1=y; c*=utf-8''%41"
    assert content_type(field) == ("text/plain", {"b": "1", "a": "x'%41y", "c": "A"})


def test_message_without_fields_is_all_body() -> None:
    assert message_to_text(b"just some text\n\nand more").text == "just some text\n\nand more"
    assert message_to_text(b"").text == ""


def test_mbox_line_and_leading_blank_lines_are_skipped() -> None:
    for line in (b"From a@b Mon Jan 1\n", b">From a@b Mon Jan 1\n"):
        assert message_to_text(line + b"Subject: s\n\nt").text == "s\n\nt"
    assert message_to_text(b"\r\n\r\nSubject: s\r\n\r\nt").text == "s\n\nt"


def test_first_of_doubled_fields_counts() -> None:
    assert message_to_text(b"Subject: one\nSubject: two\n\nt").subject == "one"


def test_carriage_returns_by_themselves_end_lines_and_do_not() -> None:
    """Some mail programs take one for the end of a line, others for a character."""
    closed = multipart("mixed", plain("see you\r--b--\r"), html(HTML_WORDS))
    assert read(closed) == f"see you\n\nsee you\n--b--\n\n{WORDS}"
    body = base64.b64encode(HTML_WORDS.encode()).decode()
    fields = "\r\rlunch\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64"
    assert read(mail(body, subject=f"Hello{fields}")).endswith(f"{body}\n\n{WORDS}")
    assert read(mail("one\rtwo")) == "one\ntwo"
    assert read(mail("Hello\r\rone\r", subject="Hello").replace(b"\r\n", b"\r")) == "Hello\n\none"


def test_doubled_mime_fields_are_read_both_ways() -> None:
    """Thunderbird goes by the first of them, mutt by the last."""
    spam = base64.encodebytes(b"Cash prize").decode()
    octets, text = "Content-Type: application/octet-stream", "Content-Type: text/plain"
    coded, bare = "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: 8bit"
    for first, last in ((octets, text), (text, octets)):
        assert read(mail("Cash prize", first, last)) == "Cash prize"
        assert read(multipart("mixed", f"{first}\r\n{last}\r\n\r\nCash prize")) == "Cash prize"
    for first, last in ((coded, bare), (bare, coded)):
        assert "Cash prize" in read(mail(spam, first, last))
    assert read(mail("Once", text, text)) == "Once"


@pytest.mark.parametrize("junk", ["junk", " \r\njunk", ">From x", ":", "Xé: y", "a b: c"])
def test_fields_after_a_line_that_is_none_count(junk: str) -> None:
    """Thunderbird reads fields up to the blank line; mutt begins the body at the junk."""
    text = read(mail("<b>Ca</b>sh prize", junk, "Content-Type: text/html"))
    assert text.startswith("Cash prize\n\n" + junk.strip().split("\r\n")[-1])
    part = f"{junk}\r\nContent-Type: text/html\r\n\r\n<b>Ca</b>sh prize"
    assert "Cash prize" in read(multipart("mixed", part))


def test_fields_count_after_any_number_of_others() -> None:
    fields = ["X: y"] * 5_000
    assert read(mail("<b>Ca</b>sh", *fields, "Content-Type: text/html")) == "Cash"


def test_blanks_before_a_subject_do_not_cut_it_off() -> None:
    assert message_to_text(mail("", subject="\r\n " * 5_000 + "Seen")).subject == "Seen"


def test_byte_order_mark_before_a_message_is_none_of_it() -> None:
    raw = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nContent-Transfer-Encoding: base64\n\n"
    raw += b"QmlzIG1vcmdlbiE="
    assert message_to_text(b"\xef\xbb\xbf" + raw) == message_to_text(raw)
    assert message_to_text(raw).text == "Grüße\n\nBis morgen!"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"From Monday on the office is closed.", "From Monday on the office is closed."),
        (b"\nFrom 1 June half price.\nBuy now", "From 1 June half price.\nBuy now"),
        (b"From a@example.org Mon Jan  1\nSubject: s\n\nseen", "s\n\nseen"),
        (b">From a@example.org Mon Jan  1\nSubject: s\n\nseen", "s\n\nseen"),
    ],
)
def test_a_line_that_begins_with_from_is_an_envelope_before_fields_alone(
    raw: bytes, text: str
) -> None:
    assert message_to_text(raw).text == text
