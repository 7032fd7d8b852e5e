"""Messages as the spamd protocol brings them, and the marks in those that it gives back."""

import asyncio
import re
import zlib

import pytest

from app.spamd_protocol import Verdict, mark_message, read_request
from tests.test_spamd import MAIL


def test_marks_that_a_message_brings_along_are_taken_out() -> None:
    verdict = Verdict(is_spam=False, score=-4.0, required_score=3.0, symbols=["SPAMGATE"])
    marked = mark_message(MAIL, verdict, headers_only=False)
    status = b"X-Spam-Status: No, score=-4.0 required=3.0 tests=none"
    assert marked.startswith(b"X-Spam-Flag: NO\r\n" + status + b"\r\n")
    assert marked.endswith(b"From: a@example.org\r\nSubject: x\r\n\r\ntext\r\n")
    mbox = mark_message(b"From a@b\nSubject: x\n\nX-Spam-Flag: NO\n", verdict, headers_only=False)
    assert mbox.startswith(b"From a@b\nX-Spam-Flag: NO\n")
    assert mbox.endswith(b"Subject: x\n\nX-Spam-Flag: NO\n")


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (b"X-Spam-Flag : NO\nSubject: x\n\ny", b"Subject: x\n\ny"),
        (b"Subject: x\nX-Spam-Status: No,\n score=0", b"Subject: x\n"),
        (b"Subject: x\nX-Spam-Flag: NO", b"Subject: x\n"),
        (b"\nno fields\nX-Spam-Flag: NO\n\ny", b"\nno fields\nX-Spam-Flag: NO\n\ny"),
        (b"\r\nno fields\r\nX-Spam-Flag: NO\r\n", b"\r\nno fields\r\nX-Spam-Flag: NO\r\n"),
    ],
)
def test_marks_are_taken_out_of_the_fields_alone(message: bytes, kept: bytes) -> None:
    verdict = Verdict(is_spam=True, score=4.0, required_score=3.0, symbols=["SPAMGATE"])
    marked = mark_message(message, verdict, headers_only=False)
    assert re.split(rb"tests=SPAMGATE\r?\n", marked)[1] == kept


def test_a_message_is_counted_as_it_comes_and_as_it_unfolds() -> None:
    packed = zlib.compress(bytes(100_000))
    held: list[int] = []

    async def read() -> bytes:
        reader = asyncio.StreamReader()
        fields = f"Compress: zlib\r\nContent-length: {len(packed)}\r\n\r\n"
        reader.feed_data(b"CHECK SPAMC/1.5\r\n" + fields.encode() + packed)
        reader.feed_eof()
        return (await read_request(reader, 1 << 20, held.append)).message

    assert asyncio.run(read()) == bytes(100_000)
    assert sum(held) == len(packed) + 100_000
