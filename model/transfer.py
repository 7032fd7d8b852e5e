"""Transfer encodings (RFC 2045) and S/MIME signatures (8551) off, whatever stands there. Total."""

import binascii
import re

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64_ALPHABET) - {ord("=")})
# Padding ends a run of digits; one digit alone says nothing.
_RUN = re.compile(rb"[^=]{2,}+")
_PADDED_BREAK = re.compile(rb"=[ \t]++\n")
# Lines of digits, and what follows their padding or an empty line and is none.
_DIGITS = re.compile(rb"^[A-Za-z0-9+/]{20,}+={0,2}[ \t]*+$", re.MULTILINE)
_END_OF_DIGITS = re.compile(rb"(?:=[ \t]*+\n|\n[ \t]*+\n)(?=[^\n]*[^\sA-Za-z0-9+/=])()")
_UUENCODE = (b"x-uuencode", b"uuencode", b"x-uue", b"uue")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} [^\n]*\n", re.MULTILINE)
_MAX_UU_LINES = 100_000
# The object identifier of signed data, and how many elements of DER are looked at.
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_MAX_ELEMENTS = 100_000
_OCTETS, _IS_CONSTRUCTED = 0x04, 0x20
_AFTER_CONTENT = (0xA0, 0xA1, 0x31)  # certificates, revocations, signers


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """The body of a part without its transfer encoding; as it is where that is none.

    Args:
        data: the body, its lines ended by ``\\n``.
        encoding: what the field Content-Transfer-Encoding says.
    """
    encoding = encoding.lower()
    if encoding.startswith(b"base64"):
        body, footer = _without_footer(data)
        return decode_base64(body) + b"\n" * bool(footer) + footer
    if encoding.startswith(b"quoted-printable"):
        return binascii.a2b_qp(_PADDED_BREAK.sub(b"=\n", data))
    if encoding.startswith(_UUENCODE):
        return _decode_uu(data)
    return data


def _without_footer(data: bytes) -> tuple[bytes, bytes]:
    """The digits, and what a mailing list or a gateway has put behind them as it is."""
    end = _END_OF_DIGITS.search(data)
    if end is None or _DIGITS.search(data, end.end()):
        return data, b""
    return data[: end.start(1)], data[end.start(1) :]


def decode_base64(data: bytes) -> bytes:
    """Whatever the digits among these bytes say; strangers are skipped.

    >>> decode_base64(b"SGVsbG8=LCB3 b3JsZA==")
    b'Hello, world'
    """
    decoded = bytearray()  # a list of millions of runs would take thirty times their room
    for run in _RUN.finditer(data.translate(None, _NOT_BASE64)):
        decoded += _decode_run(run[0])
    return bytes(decoded)


def _decode_run(digits: bytes) -> bytes:
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _decode_uu(data: bytes) -> bytes:
    """What stands between "begin" and "end", lines that are not encoded included.

    All of it where nothing begins.
    """
    begin = _UU_BEGIN.search(data)
    if begin is None:
        return data
    pieces: list[bytes] = []
    lines = data[begin.end() :].split(b"\n", _MAX_UU_LINES)
    for line in lines[:_MAX_UU_LINES]:
        if line == b"end":
            break
        pieces.append(_decode_uu_line(line))
    return b"".join(pieces)


def _decode_uu_line(line: bytes) -> bytes:
    num_bytes = (line[0] - 32) & 63 if line else 0
    try:
        # As many digits as the first one asks for; some encoders write more.
        return binascii.a2b_uu(line[: 1 + (num_bytes * 4 + 2) // 3]) if num_bytes else b""
    except binascii.Error:
        return line + b"\n"


def signed_content(data: bytes) -> bytes:
    """What an S/MIME message that is signed, not encrypted, holds; nothing if it is none."""
    position = data.find(_SIGNED_DATA, 0, 64)
    if position < 0:
        return b""
    pieces: list[bytes] = []
    for _ in range(_MAX_ELEMENTS):
        tag, length = data[position : position + 1], data[position + 1 : position + 2]
        position += 2
        if not length or (pieces and tag[0] in _AFTER_CONTENT):
            break
        size = length[0]
        if size > 0x80:
            num_bytes = size - 0x80
            size = int.from_bytes(data[position : position + num_bytes], "big")
            position += num_bytes
        # Elements made of others are entered, the rest is passed over.
        if not tag[0] & _IS_CONSTRUCTED:
            if tag[0] == _OCTETS:
                pieces.append(data[position : position + size])
            position += size
    return b"".join(pieces)
