"""Messages made to break, slow down or deceive a mail filter, each a known kind of attack.

``HOSTILE`` maps a name to the raw message. What the fuzzer found lies beside this file as ``.eml``.
"""

import base64
from pathlib import Path

SPAM = "You are a winner! Claim your $1000 cash reward now at http://prize.example/claim"
HAM = "The minutes of the meeting on Tuesday are attached, see you at the next one in May."

MEGABYTE = 1 << 20


def message(body: str | bytes, *fields: str, subject: str = "Invoice") -> bytes:
    """A message with a subject, these further fields and this body."""
    head = "\n".join([f"Subject: {subject}", *fields]) + "\n\n"
    encoded = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return head.encode("utf-8", "surrogatepass") + encoded


def html(body: str) -> bytes:
    """A message that is one HTML part."""
    return message(body, "Content-Type: text/html; charset=utf-8")


def mixed(body: str | bytes, boundary: str = "b", kind: str = "mixed") -> bytes:
    """A multipart message with this body, boundary lines included."""
    return message(body, f'Content-Type: multipart/{kind}; boundary="{boundary}"')


def text_part(text: str, kind: str = "plain") -> str:
    """One text part with its boundary line."""
    return f"--b\nContent-Type: text/{kind}\n\n{text}\n"


def nested_multiparts(levels: int) -> bytes:
    """Multiparts inside multiparts, the text in the innermost."""
    opening = "".join(
        f"--b{level}\nContent-Type: multipart/mixed; boundary=b{level + 1}\n\n"
        for level in range(levels)
    )
    return mixed(opening + f"--b{levels}\n\n{SPAM}", boundary="b0")


def nested_messages(levels: int) -> bytes:
    """Messages inside messages."""
    inner = "Content-Type: message/rfc822\n\n" * levels
    return (inner + f"Subject: inner\n\n{SPAM}").encode()


def twice(document: str) -> bytes:
    """Half a megabyte of such documents, no two of them equal, in a message that is read both ways
    and with what they hide."""
    hidden = "<p style='display:none'>{}</p>"
    documents = [document + hidden.format(n) for n in range(MEGABYTE // 2 // len(document))]
    parts = "".join(text_part(text, "html") for text in [SPAM, *documents])
    return message(parts, "Content-Type: multipart/mixed; boundary=b; x=1; x=2")


def spread(text: str, separator: str) -> str:
    """The text with this between all its characters."""
    return separator.join(text)


def _tokenizer_and_unicode() -> dict[str, bytes]:
    fullwidth = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in SPAM)
    bold = "".join(chr(0x1D41A + ord(c) - ord("a")) if "a" <= c <= "z" else c for c in SPAM)
    cyrillic = SPAM.translate(str.maketrans("aceopxyiAEOC", "асеорхуіАЕОС"))
    return {
        "end-of-text token alone": message("<|endoftext|>", subject="<|endoftext|>"),
        "end-of-text token inside": message(f"{SPAM} <|endoftext|> {HAM}"),
        "lone surrogates in UTF-8": message(f"\ud83d {SPAM} \udc00"),
        "NUL bytes": message(spread(SPAM, "\0")),
        "control characters": message("".join(map(chr, range(32))) + SPAM + "\x7f\x9f"),
        "broken UTF-8": message(b"\xff\xfe\xc3 " + SPAM.encode() + b" \xf8\x80\xe2\x82"),
        "overlong UTF-8": message(b"\xc0\xaf\xe0\x80\xaf " + SPAM.encode()),
        "zero-width spaces": message(spread(SPAM, "\u200b")),
        "soft hyphens": message(spread(SPAM, "\u00ad")),
        "word joiners": message(spread(SPAM, "\u2060")),
        "bidi overrides": message(f"\u202e{SPAM[::-1]}\u202c"),
        "bidi isolates": message("\u2066" * 5000 + SPAM),
        "tag characters": message(SPAM + "".join(chr(0xE0000 + ord(c)) for c in HAM)),
        "variation selectors": message(spread(SPAM, "\ufe0f")),
        "accents": message(SPAM.translate(str.maketrans("aeiou", "áèîöū"))),
        "letters with accents and none": message("a" * 200_000 + "é" + "a" * 200_000),
        "combining strokes": message(spread(SPAM, "\u0336")),
        "100,000 combining marks": message("a" + "\u0301\u0323" * 50_000 + SPAM),
        "descending Hebrew points": message("\u05bc\u05b0" * 100_000),
        "ligature bomb": message("\ufdfa" * 100_000),
        "fullwidth letters": message(fullwidth),
        "mathematical letters": message(bold),
        "Cyrillic lookalikes": message(cyrillic),
        "flag letters": message("".join(chr(0x1F1E6 + n % 26) for n in range(2000))),
        "a million blanks": message(" " * MEGABYTE + SPAM),
        "a million blank lines": message("\n" * MEGABYTE + SPAM),
        "one word of a million letters": message("a" * MEGABYTE),
        "a million emoji": message("😀" * MEGABYTE),
        "invisible text only": message("\u200b" * 10_000, subject="\u200b"),
    }


_HIDDEN = f"<div style='display:none'>{HAM}</div>"


def _hidden_in_html() -> dict[str, bytes]:
    return {
        "hidden by display": html(f"{_HIDDEN}<p>{SPAM}"),
        "hidden by attribute": html(f"<div hidden>{HAM}</div><p>{SPAM}"),
        "ZeroFont": html("".join(f"{c}<span style='font-size:0'>{HAM}</span>" for c in SPAM)),
        "white on white": html(f"<p>{SPAM}<font color=#ffffff>{HAM}</font>"),
        "hidden by stylesheet": html(f"<style>.x{{display:none}}</style>{SPAM}<p class=x>{HAM}"),
        "shown again by !important": html(
            f"<style>.x{{display:block!important}}</style><p class=x style=display:none>{SPAM}"
        ),
        "words split by tags": html(spread(SPAM, "<b></b>")),
        "words split by comments": html(spread(SPAM, "<!-- x -->")),
        "numeric entities": html("".join(f"&#{ord(c)};" for c in SPAM)),
        "unknown entities": html("&nosuch; &#xFFFFFFFF; &#0; &#xD800; " + SPAM),
    }


def _costly_html() -> dict[str, bytes]:
    return {
        "20,000 nested div": html("<div>" * 20_000 + SPAM),
        "300,000 nested div": html("<div>" * 300_000 + SPAM),
        "nested tables": html("<table><tr><td>" * 5_000 + SPAM),
        "20,000 unclosed p": html("<p " * 20_000 + SPAM),
        "open angle brackets": html("<" * 500_000 + SPAM),
        "unclosed comment": html(f"{SPAM}<!-- {'x' * 100_000}"),
        "100,000 comments": html("<!-- -->" * 100_000 + SPAM),
        "unclosed script": html(f"{SPAM}<script>{HAM * 1000}"),
        "100,000 attributes": html(
            "<p " + " ".join(f"a{n}=1" for n in range(100_000)) + f">{SPAM}"
        ),
        "two megabytes of HTML": html(f"<p>{HAM}</p>" * 22_000),
        "ten megabytes hidden before the text": html(_HIDDEN * 100_000 + SPAM),
        "adopted formatting elements": html("<a><b><i>" * 3_000 + SPAM),
        "formatting elements that are never closed": html(
            "".join(f"<p><font color={n}>x" for n in range(2_500)) + SPAM
        ),
        "30,000 nested lists": html("<ul>x" * 30_000 + SPAM),
        "100,000 options": html("<select>" + "<option>x" * 100_000 + SPAM),
        "200,000 nested annotations": html("<rt>" * 200_000 + SPAM),
        "meta charset against the field": html("<meta charset=utf-16>" + SPAM),
        "processing instructions": html("<?php " * 10_000 + SPAM),
        "SVG and MathML": html(f"<svg><title>{HAM}</title><math><mi>{SPAM}</mi></math></svg>"),
        "template and noscript": html(f"<template>{HAM}</template><noscript>{SPAM}</noscript>"),
        "noscript behind other text": html(f"<p>{HAM}</p><noscript><p>{SPAM}</p></noscript>"),
    }


def _costly_styles() -> dict[str, bytes]:
    return {
        "strings of CSS": html(
            f"<style>{'p{content:attr(title)}' * 20_000}</style>{'<p title=abc>' * 20_000}{SPAM}"
        ),
        "unclosed strings of CSS": html("<style>" + 'content:\\"' * 50_000 + f"</style>{SPAM}"),
        "properties of CSS without names": html(
            f"<style>a{{content:var(--a)}}{'-' * 500_000}</style>{SPAM}"
        ),
        "Outlook's condition of blanks": html(
            f"<!--[if !{' ' * 30_000}x mso]>a<![endif]--><!--[if !mso{' ' * 60_000}&]>b<![endif]-->"
            f"{SPAM}"
        ),
        "a million byte attribute": html(f"<p style='{'x' * MEGABYTE}'>{SPAM}"),
        "semicolons in a style": html(f"<p style='{'a:b;' * 250_000}'>{SPAM}"),
        "50,000 styled elements": html("<i style='color:red;font-size:0'>x</i>" * 50_000 + SPAM),
        "nested styled elements": html(
            "<b style='color:#fff'><u style='font-size:0'>" * 2_500 + SPAM
        ),
        "nested lists": twice("<ul>" * 9_900),
        "nested items of lists": twice("<ul><li>" * 4_900),
        "nested blocks in lines": twice("<div style='display:inline'>" * 1_400),
        "nested fonts of no size": html(
            "<div style=font-size:0em>" * 1_000 + "<br>" * 8_000 + f"<font size=3>{SPAM}</font>"
        ),
        "one long rule for many elements": html(
            f"<style>p{{display:block;{'top:1px;' * 8_120}}}</style>{'<p>x' * 4_900}{SPAM}"
        ),
        "5,000 style rules": html(
            "<style>" + "".join(f".c{n} p{{color:red}}" for n in range(5_000)) + f"</style>{SPAM}"
        ),
        "costly selectors": html(
            "<style>" + "* * * * * *{color:red}" * 100 + "</style>" + "<div>" * 2_000 + SPAM
        ),
        "unclosed braces in a stylesheet": html("<style>" + "{" * 60_000 + f"</style>{SPAM}"),
        "comment starts in a stylesheet": html("<style>" + "/*" * 30_000 + f"</style>{SPAM}"),
        "50,000 tags in a drawing's stylesheet": html(
            f"<svg><style>{'<g>' * 50_000}{'</y>' * 50_000}{SPAM}"
        ),
    }


def _mime() -> dict[str, bytes]:
    return {
        "innocent plain beside spam": mixed(
            text_part(HAM) + text_part(f"<p>{SPAM} and more words", "html"), kind="alternative"
        ),
        "innocent part in multipart/related": mixed(
            text_part(SPAM, "html") + text_part(HAM), kind="related"
        ),
        "1,200 nested multiparts": nested_multiparts(1_200),
        "50,000 nested multiparts": nested_multiparts(50_000),
        "10,000 nested messages": nested_messages(10_000),
        "3,000 parts": mixed(text_part(SPAM) * 3_000),
        "500,000 boundary lines": mixed("--b\n" * 500_000),
        "no boundary": message(text_part(SPAM), "Content-Type: multipart/mixed"),
        "wrong boundary": mixed(text_part(SPAM), boundary="other"),
        "empty boundary": message(text_part(SPAM), 'Content-Type: multipart/mixed; boundary=""'),
        "boundary full of regex": mixed(text_part(SPAM), boundary="(a+)+$[*"),
        "boundary of ten thousand bytes": mixed(text_part(SPAM), boundary="b" * 10_000),
        "boundary that contains the inner one": mixed(
            "--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\n" + SPAM + "\n--b--\n"
        ),
        "short HTML before innocent plain": mixed(
            text_part(SPAM[:16], "html") + text_part(HAM), kind="alternative"
        ),
        "invitation beside innocent plain": mixed(
            text_part(HAM) + text_part(f"SUMMARY:{SPAM}", "calendar"), kind="alternative"
        ),
        "two boundaries": message(
            f"--a\n\n{HAM}\n--a--\n--b\n\n{SPAM}\n--b--\n",
            "Content-Type: multipart/mixed; boundary=a; boundary=b",
        ),
        "type in quotes": message(SPAM, 'Content-Type: "text/html"'),
        "never closed": mixed(text_part(SPAM)[:-1]),
        "text only in preamble and epilogue": mixed(f"{SPAM}\n--b--\n{SPAM}"),
        "multipart with a transfer encoding": message(
            base64.encodebytes(text_part(SPAM).encode()),
            "Content-Type: multipart/mixed; boundary=b",
            "Content-Transfer-Encoding: base64",
        ),
    } | _encoded()


def _encoded() -> dict[str, bytes]:
    plain_b64 = base64.encodebytes(SPAM.encode()).decode()
    base64_field = "Content-Transfer-Encoding: base64"
    return {
        "broken base64": message(plain_b64[:50] + "*!\n" + plain_b64[50:-4] + "x", base64_field),
        "base64 that is none": message(SPAM, base64_field),
        "broken quoted-printable": message(
            f"=ZZ {SPAM} =4 =\n=", "Content-Transfer-Encoding: quoted-printable"
        ),
        "unknown transfer encoding": message(SPAM, "Content-Transfer-Encoding: rot13"),
        "25 MB attachment": mixed(
            text_part(SPAM).encode()
            + b"--b\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\n\n"
            + (b"QUJD" * 19 + b"\n") * 340_000
            + b"--b--\n"
        ),
        "25 MB attachment before the text": mixed(
            b"--b\nContent-Type: application/zip\n\n"
            + (b"QUJD" * 19 + b"\n") * 340_000
            + text_part(SPAM).encode()
        ),
        "40 MB of text": message(b"good words " * 4_000_000),
        "text as an attachment": message(SPAM, "Content-Disposition: attachment"),
        "delivery report": mixed(
            text_part(SPAM) + "--b\nContent-Type: message/delivery-status\n\nStatus: 5.0.0\n",
            kind="report",
        ),
        "forwarded as attachment": mixed(
            f"--b\nContent-Type: message/rfc822\n\nSubject: inner\n\n{SPAM}\n"
        ),
        "partial message": message(SPAM, "Content-Type: message/partial; id=x; number=1"),
        "flowed with a million soft breaks": message(
            "a \n" * 300_000 + SPAM, "Content-Type: text/plain; format=flowed"
        ),
        "type without a subtype": message(SPAM, "Content-Type: text"),
        "type full of parameters": message(SPAM, "Content-Type: text/plain" + ';a="' * 50_000),
        "uuencoded": message(f"begin 644 a\n{SPAM}\nend", "Content-Transfer-Encoding: x-uuencode"),
    }


def _fields_and_charsets() -> dict[str, bytes]:
    def declared(charset: str, body: bytes) -> bytes:
        return message(body, f"Content-Type: text/plain; charset={charset}")

    words = " ".join("=?utf-8?b?" + base64.b64encode(w.encode()).decode() + "?=" for w in SPAM)
    return {
        "empty": b"",
        "only line ends": b"\r\n\r\n\n\r\r",
        "random bytes": bytes(n * 7919 % 251 for n in range(100_000)),
        "no fields": SPAM.encode(),
        "no body": b"Subject: " + SPAM.encode(),
        "bare carriage returns": message(SPAM).replace(b"\n", b"\r"),
        "doubled subject": b"Subject: " + HAM.encode() + b"\n" + message(SPAM),
        "doubled type": message(SPAM, "Content-Type: text/plain", "Content-Type: image/png"),
        "field without a colon": b"Subject: a\nNo colon here\nContent-Type: text/html\n\n" + b"x",
        "blank in a field name": b"Subject : " + SPAM.encode() + b"\n\nx",
        "subject of a million bytes": message("x", subject="win " * 250_000),
        "subject folded 100,000 times": message("x", subject="a\n " * 100_000),
        "200,000 fields": message("x", *["X-Padding: yes"] * 200_000),
        "encoded subject in 80 words": message("x", subject=words),
        "encoded words within words": message("x", subject="=?utf-8?q?=?= =?utf-8?b?=?=" * 300),
        "broken encoded words": message("x", subject="=?utf-8?b?!!!?= =?utf-8?q?=ZZ?= =?x?= =?"),
        "subject in an unknown charset": message("x", subject="=?martian?q?win_cash?="),
        "subject with a line break inside": message("x", subject="=?utf-8?q?a=0D=0ABcc:_b?="),
        "charset that is a codec": declared("zip", SPAM.encode()),
        "charset idna": declared("idna", b"xn--" + b"a" * 100_000),
        "charset punycode": declared("punycode", b"a-" + b"b" * 100_000),
        "charset unicode_escape": declared("unicode_escape", b"\\N{DIGIT ONE}" * 10_000),
        "charset of a path": declared("../../etc/passwd\0", SPAM.encode()),
        "charset of ten thousand bytes": declared("u" * 10_000, SPAM.encode()),
        "UTF-16 without a mark": declared("utf-16", SPAM.encode("utf-16-be")),
        "UTF-16 that is ASCII": declared("utf-16", SPAM.encode()),
        "UTF-32": declared("utf-32", SPAM.encode("utf-32")),
        "UTF-7": declared("utf-7", SPAM.replace("$", "+ACQ-").encode()),
        "UTF-7 with lone surrogates": declared("utf-7", b"+2AA- +3AA- " + SPAM.encode()),
        "ISO-2022 escapes": declared("iso-2022-jp", b"\x1b$B" * 50_000 + SPAM.encode()),
        "HZ": declared("hz", b"~{" * 50_000 + SPAM.encode()),
        "ASCII that is UTF-8": declared("us-ascii", "grátis €".encode()),
        "UTF-8 that is Latin-1": declared("utf-8", "grátis já então".encode("latin-1")),
        "good words before": message(f"{HAM}\n" * 2_000 + SPAM),
        "good words after": message(SPAM + f"\n{HAM}" * 2_000),
    }


HOSTILE: dict[str, bytes] = {
    **_tokenizer_and_unicode(),
    **_hidden_in_html(),
    **_costly_html(),
    **_costly_styles(),
    **_mime(),
    **_fields_and_charsets(),
    **{path.name: path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.eml"))},
}
