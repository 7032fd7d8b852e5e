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
_PARAMETER = re.compile(r';\s*+([^\s=;*]++)(\*?)(\d{0,2})(\*?)\s*+=\s*+("[^"]*+"?|[^;]*+)')
# Question marks in a word are against the RFC, and shown.
_ENCODED_WORD = re.compile(r"=\?([^?*\s]++)(?:\*[^?\s]*+)?\?([bBqQ])\?((?:[^?]|\?(?!=))*+)\?=")


def content_type(field: bytes, *, last_counts: bool = False) -> tuple[str, dict[str, str]]:
    """Type in lower case and its parameters.

    What is no type counts as ``text/plain``, or ``multipart/mixed`` if it begins like a multipart.

    Args:
        field: the field without its name.
        last_counts: of a parameter that stands twice; else the first does.
    """
    value = field.decode("utf-8", "surrogateescape").replace("\n", "")
    kind = _TYPE_END.split(value.lower().strip().lstrip('"'), maxsplit=1)[0]
    if not _TYPE.fullmatch(kind):
        kind = "multipart/mixed" if kind.startswith("multipart/") else "text/plain"
    parameters: dict[str, str] = {}
    for name, star, number, extended, quoted in _PARAMETER.findall(value):
        content = quoted.strip().strip('"')
        if extended or (star and not number):
            content = unquote(content.rpartition("'")[2], errors="surrogateescape")
        # RFC 2231 cuts a long value into name*0, name*1 and so on.
        is_sequel = number not in ("", "0")
        name = name.lower()
        if is_sequel:
            parameters[name] = parameters.get(name, "") + content
        elif last_counts or name not in parameters:
            parameters[name] = content
    return kind, parameters


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
