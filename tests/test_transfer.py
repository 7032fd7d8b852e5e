"""Transfer encodings: what mail programs decode is decoded, and nothing is slow or an error."""

import base64
import binascii
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.mail import message_to_text
from model.transfer import decode_base64, decode_transfer, signed_content

TEXT = b"Claim your cash reward now\nat http://prize.example/claim\n"


def uuencoded(data: bytes, *, padding: bytes = b"") -> bytes:
    lines = [binascii.b2a_uu(data[n : n + 45])[:-1] + padding for n in range(0, len(data), 45)]
    return b"\n".join([b"Hello", b"begin 644 a.txt", *lines, b"`", b"end", b"Bye"])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_base64_goes_on_after_padding(length: int) -> None:
    """As in Thunderbird: a short first line must not make the rest unreadable."""
    coded = base64.b64encode(TEXT[:length]) + b"\n" + base64.encodebytes(TEXT[length:])
    assert decode_base64(coded) == TEXT


def test_base64_goes_on_after_any_number_of_paddings() -> None:
    """Thousands of blanks in front, each padded, must not make noise of the text."""
    assert decode_base64(b"IA==" * 5_000 + base64.b64encode(TEXT)) == b" " * 5_000 + TEXT


def test_base64_skips_strangers() -> None:
    assert decode_base64(b"!SGV\0sbG8*=\xff") == b"Hello"
    assert decode_base64(b"SGVsbG8=SGVsbG8") == b"HelloHello"
    assert decode_base64(b"SGVsb") == b"Hel"
    assert decode_base64(b"=" * 5_000 + b"SGVsbG8=") == b"Hello"


def test_soft_line_break_of_quoted_printable_may_have_blanks() -> None:
    """RFC 2045, 6.7 (3): blanks at the end of a line are not of the text."""
    assert decode_transfer(b"vi= \t\nag=\nra =3D = x", b"Quoted-Printable") == b"viagra = = x"


@pytest.mark.parametrize("encoding", [b"x-uuencode", b"X-UUE", b"uuencode"])
@pytest.mark.parametrize("padding", [b"", b"`"])
def test_uuencoded_text_is_decoded(encoding: bytes, padding: bytes) -> None:
    """As mutt and Thunderbird show it."""
    for text in (TEXT, TEXT[:-1], TEXT[:-2]):  # of which the last line has any number of digits
        assert decode_transfer(uuencoded(text, padding=padding), encoding) == text


def test_uuencode_that_is_none_stays() -> None:
    assert decode_transfer(TEXT, b"x-uuencode") == TEXT
    assert decode_transfer(b"begin 644 a\n" + TEXT + b"end\n", b"x-uuencode") == TEXT


def test_unknown_encodings_leave_the_body() -> None:
    assert decode_transfer(TEXT, b"x-unknown") == TEXT


def test_encoded_message_in_a_message_is_split() -> None:
    inner = b'Content-Type: multipart/mixed; boundary="--i"\r\n\r\n----i\r\n\r\nSeen\r\n----i--\r\n'
    fields = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
    assert message_to_text(fields + base64.encodebytes(inner)).text == "Seen"


def der(tag: int, content: bytes) -> bytes:
    """One element, its length in two bytes."""
    return bytes([tag, 0x82, *len(content).to_bytes(2, "big")]) + content


def signed(*pieces: bytes, kind: int = 2, has_certificates: bool = True) -> bytes:
    """Signed data (RFC 5652), as ``openssl cms -sign -nodetach`` writes it."""
    octets = b"".join(der(0x04, piece) for piece in pieces)
    content = octets if len(pieces) == 1 else b"\x24\x80" + octets + b"\0\0"
    data = b"\x06\x03\x2a\x03\x04" + der(0xA0, content)
    certificates = der(0xA0, der(0x30, der(0x04, b"not this"))) if has_certificates else b""
    signers = der(0x31, der(0x30, der(0x04, b"nor this")))
    inner = b"\x02\x01\x01" + der(0x31, b"") + der(0x30, data) + certificates + signers
    number = bytes.fromhex("06092a864886f70d0107") + bytes([kind])
    return der(0x30, number + der(0xA0, der(0x30, inner)))


def test_signed_text_is_read() -> None:
    """Outlook, Apple Mail and Thunderbird show what is inside smime.p7m."""
    entity = b"Content-Type: text/html\r\n\r\n<b>Ca</b>sh prize"
    for pieces in ([entity], [entity[:30], entity[30:]]):
        raw = (
            b"Subject: Hi\nContent-Type: application/pkcs7-mime; smime-type=signed-data\n"
            b"Content-Transfer-Encoding: base64\nContent-Disposition: attachment\n\n"
        ) + base64.encodebytes(signed(*pieces))
        message = message_to_text(raw)
        assert message.text == "Hi\n\nCash prize"
        assert message.parts == ("text/html",)


def test_encrypted_or_broken_content_is_not_text() -> None:
    assert signed_content(signed(TEXT, kind=3)) == b""
    assert signed_content(b"") == b""
    assert signed_content(signed(TEXT, has_certificates=False)) == TEXT
    whole = signed(TEXT)
    for length in range(len(whole)):
        assert TEXT.startswith(signed_content(whole[:length]))


@given(st.binary())
def test_any_bytes_may_be_signed(data: bytes) -> None:
    signed_content(bytes.fromhex("06092a864886f70d010702") + data)


@given(st.binary(), st.sampled_from([b"base64", b"quoted-printable", b"x-uuencode", b""]))
def test_any_bytes_are_decoded(data: bytes, encoding: bytes) -> None:
    decode_transfer(data, encoding)
    decode_transfer(b"begin 644 a\n" + data, encoding)


@pytest.mark.parametrize("data", [b"AA=" * 2_700_000, b"= " * 4_000_000, b"=" * 8_000_000])
@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_time_is_bounded(data: bytes, encoding: bytes) -> None:
    start = time.process_time()
    decode_transfer(data, encoding)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("line", [b"", b"#", b"M", b"begin 644 a", b"\xff"])
def test_time_of_uuencode_is_bounded(line: bytes) -> None:
    start = time.process_time()
    decode_transfer(b"begin 644 a\n" + (line + b"\n") * 2_000_000, b"x-uuencode")
    assert time.process_time() - start < 3


FOOTER = "_" * 30 + "\nusers mailing list\nusers@lists.example.org\n"


@pytest.mark.parametrize("between", ["", "\n", "  \n\n"])
@pytest.mark.parametrize("length", [3, 40, 200])
def test_footer_behind_base64_is_read_as_it_stands(between: str, length: int) -> None:
    text = ("Schöne Grüße aus Köln. " * 10)[:length].encode()[: 3 * (length // 3) + 2]
    coded = base64.encodebytes(text)
    between = between or ("" if coded.endswith(b"=\n") else "\n")
    found = decode_transfer(coded + f"{between}{FOOTER}".encode(), b"base64")
    assert found == text + f"\n{FOOTER}".encode()


def test_base64_that_goes_on_behind_text_is_decoded() -> None:
    coded = base64.encodebytes(TEXT)
    found = decode_transfer(coded + b"\n-- stranger: --\n" + coded, b"base64")
    assert found.startswith(TEXT)
    assert TEXT[3:] in found[len(TEXT) :]
