"""Transfer encodings (RFC 2045) back to bytes, whatever stands there. Never raises."""

import binascii
import re

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64_ALPHABET) - {ord("=")})
# Padding ends a run of digits; after so many the rest is read as one.
_MAX_RUNS = 1_000
_PADDED_BREAK = re.compile(rb"=[ \t]++\n")
_UUENCODE = (b"x-uuencode", b"uuencode", b"x-uue", b"uue")
_UU_BEGIN = re.compile(rb"^begin [0-7]{3,4} [^\n]*\n", re.MULTILINE)
_MAX_UU_LINES = 100_000


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """The body of a part without its transfer encoding; as it is where that is none.

    Args:
        data: the body, its lines ended by ``\\n``.
        encoding: what the field Content-Transfer-Encoding says.
    """
    encoding = encoding.lower()
    if encoding.startswith(b"base64"):
        return decode_base64(data)
    if encoding.startswith(b"quoted-printable"):
        return binascii.a2b_qp(_PADDED_BREAK.sub(b"=\n", data))
    if encoding.startswith(_UUENCODE):
        return _decode_uu(data)
    return data


def decode_base64(data: bytes) -> bytes:
    """Whatever the digits among these bytes say; strangers are skipped.

    >>> decode_base64(b"SGVsbG8=LCB3 b3JsZA==")
    b'Hello, world'
    """
    runs = data.translate(None, _NOT_BASE64).split(b"=", _MAX_RUNS)
    runs[-1] = runs[-1].replace(b"=", b"")
    return b"".join(map(_decode_run, runs))


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
