"""Header fields of mail: encoded words (RFC 2047), types and parameters (2045, 2231). Total."""

import binascii
import re
from urllib.parse import unquote

from model.charset import decode_bytes
from model.transfer import decode_base64

_TYPE_END = re.compile(r"[\s;,(\"]")
# Names as long as they can be registered (RFC 6838), of what can stand in them (2045).
_NAME = r"[!#-'*+.0-9A-Z^-~-]{1,127}"
_TYPE = re.compile(rf"{_NAME}/{_NAME}", re.IGNORECASE)
_PARAMETER, _UNESCAPED_PARAMETER = (
    re.compile(rf';\s*+([^\s=;*]++)(\*?)(\d{{0,2}})(\*?)\s*+=\s*+(?:"({quoted})"?|([^;]*+))')
    for quoted in (r'(?:[^"\\]|\\.)*+', r'[^"]*+')
)
# Shown as plain text: PGP's of old, and what is of no kind of message that is known.
_ALSO_PLAIN = re.compile(
    r"application/pgp|message/(?!(?:rfc822|global|news|partial|external-body|feedback-report|"
    r"(?:global-)?(?:delivery-status|disposition-notification|headers))\Z).*"
)
_QUOTED_PAIR = re.compile(r"\\(.)")
# What ends a value without quotes to those who go by RFC 2045.
_VALUE_END = re.compile(r"[\s(]")
# Question marks in a word are against the RFC, and shown.
_ENCODED_WORD = re.compile(r"=\?([^?*\s]++)(?:\*[^?\s]*+)?\?([bBqQ])\?((?:[^?]|\?(?!=))*+)\?=")


def content_type(field: bytes, *, last_counts: bool = False) -> tuple[str, dict[str, str]]:
    """Type in lower case and its parameters.

    What is no type counts as ``text/plain``, or ``multipart/mixed`` if it begins like a multipart;
    what Thunderbird shows as plain text is ``text/plain``, too.

    Args:
        field: the field without its name.
        last_counts: of a parameter that stands twice; else the first does. Then a value without
            quotes ends at a blank or comment, too, and a backslash in quotes is one.
    """
    value = field.decode("utf-8", "surrogateescape").replace("\n", "")
    kind = _TYPE_END.split(value.lower().strip().lstrip('"'), maxsplit=1)[0]
    if _ALSO_PLAIN.fullmatch(kind):
        kind = "text/plain"
    if not _TYPE.fullmatch(kind):
        kind = "multipart/mixed" if kind.startswith("multipart/") else "text/plain"
    # RFC 2231 cuts a long value into name*0, name*1 and so on.
    pieces: dict[str, dict[int, str]] = {}
    pattern = _UNESCAPED_PARAMETER if last_counts else _PARAMETER
    for name, star, number, extended, quoted, bare in pattern.findall(value):
        content = quoted or bare.strip().strip('"')
        if last_counts and bare:
            content = _VALUE_END.split(content, maxsplit=1)[0]
        elif quoted and not last_counts:
            content = _QUOTED_PAIR.sub(r"\1", quoted)
        own, index = pieces.setdefault(name.lower(), {}), int(number or 0)
        if extended or (star and not number):
            # The first piece says its charset and language.
            told = content.split("'", 2)[-1] if index == 0 else content
            content = unquote(told, errors="surrogateescape")
        if last_counts or index not in own:
            own[index] = content
    return kind, {
        name: "".join(own[index] for index in sorted(own)) for name, own in pieces.items()
    }


def decode_field(value: bytes, charset: str = "") -> str:
    """A header field with its encoded words decoded; neighbours may share a character.

    Args:
        value: the field without its name.
        charset: of the body, which is that of bytes beyond ASCII in most programs.
    """
    text = decode_bytes(value, charset)[0].replace("\n", "")
    pieces: list[str] = []
    pending, pending_charset = b"", ""
    end = 0
    for match in _ENCODED_WORD.finditer(text):
        gap = text[end : match.start()]
        charset = match[1].lower()
        if gap.strip() or charset != pending_charset:
            pieces.append(decode_bytes(pending, pending_charset)[0])
            pending = b""
        if gap.strip():
            pieces.append(gap)
        pending += _decode_word(match[2], match[3])
        pending_charset = charset
        end = match.end()
    pieces.append(decode_bytes(pending, pending_charset)[0])
    return "".join(pieces) + text[end:]


def _decode_word(encoding: str, word: str) -> bytes:
    data = word.encode("utf-8")
    return decode_base64(data) if encoding in "bB" else binascii.a2b_qp(data, header=True)
