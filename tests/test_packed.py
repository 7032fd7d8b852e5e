"""Packed bodies: in one piece or several, said so or not, and what stands behind them."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from app.bodies import _MOST_PIECES, BodyBudget, Decompressor, read_json, unpack_undeclared, zstd
from app.context import Context
from app.errors import MalformedBody, UnknownEncoding
from app.mail import read_message
from app.problems import SCOPE_KEY
from app.settings import Settings
from tests.conftest import SPAM

MAIL = f"Subject: Hello\r\nContent-Type: text/plain\r\n\r\n{SPAM}\r\n".encode()
MOST = Settings().max_body_bytes
PACKED_BY: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}
# What pzstd writes first: four bytes that a decoder skips.
SKIPPED = b"\x50\x2a\x4d\x18\4\0\0\0size"


def request_of(chunks: Iterable[bytes], most: int = MOST, /, **headers: str) -> Request:
    bodies, settings = iter(chunks), Settings(max_body_bytes=most)
    state = SimpleNamespace(
        service=SimpleNamespace(settings=settings), body_budget=BodyBudget(settings)
    )
    scope = {
        SCOPE_KEY: Context("id"),
        "type": "http",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
        "app": SimpleNamespace(state=state),
    }

    async def receive() -> dict[str, Any]:
        body = next(bodies, None)
        return {"type": "http.request", "body": body or b"", "more_body": body is not None}

    return Request(scope, receive)


def message_of(chunks: Iterable[bytes], **headers: str) -> tuple[bytes, bool]:
    return asyncio.run(read_message(request_of(chunks, MOST, **headers)))


@pytest.mark.parametrize("encoding", PACKED_BY)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 16])
def test_pieces_end_to_end_are_one_body(encoding: str, chunk_bytes: int) -> None:
    pack = PACKED_BY[encoding]
    pieces = [pack(MAIL[i : i + 10]) for i in range(0, len(MAIL), 10)]
    packed = b"".join([SKIPPED] * (encoding == "zstd") + pieces)
    chunks = [packed[i : i + chunk_bytes] for i in range(0, len(packed), chunk_bytes)]
    assert message_of(chunks, content_encoding=encoding) == (MAIL, False)


@pytest.mark.parametrize("encoding", PACKED_BY)
def test_pieces_of_json_are_one_body(encoding: str) -> None:
    pack = PACKED_BY[encoding]
    request = request_of([pack(b'{"texts": '), pack(b'["Hello"]}')], content_encoding=encoding)
    assert asyncio.run(read_json(request)) == {"texts": ["Hello"]}


@pytest.mark.parametrize("encoding", PACKED_BY)
def test_json_that_is_not_all_of_its_body_is_refused(encoding: str) -> None:
    packed = PACKED_BY[encoding](b'{"texts": ["Hello"]}')
    for body, reason in ((packed + b"more", "data after its end"), (packed[:-1], "cut off")):
        with pytest.raises(MalformedBody, match=reason):
            asyncio.run(read_json(request_of([body], content_encoding=encoding)))


@pytest.mark.parametrize("encoding", PACKED_BY)
def test_no_more_pieces_than_some_are_read(encoding: str) -> None:
    most = PACKED_BY[encoding](b"x") * _MOST_PIECES
    assert message_of([most], content_encoding=encoding) == (b"x" * _MOST_PIECES, False)
    more = [most, PACKED_BY[encoding](b"x")]
    assert message_of(more, content_encoding=encoding) == (b"x" * _MOST_PIECES, True)


@pytest.mark.parametrize("encoding", PACKED_BY)
@pytest.mark.parametrize(
    ("begins", "behind", "read"),
    [
        (MAIL, b"more", MAIL),
        (MAIL, b"\0" * 9, MAIL),
        (MAIL + MAIL, None, MAIL),  # broken off
        (b"", None, b""),
    ],
)
def test_what_is_not_read_of_a_packed_message_is_told(
    encoding: str, begins: bytes, behind: bytes | None, read: bytes
) -> None:
    packed = PACKED_BY[encoding](begins)
    chunks = [packed[:-9]] if behind is None else [packed, behind]
    found, is_cut = message_of(chunks, content_encoding=encoding)
    assert is_cut
    assert found == read or behind is None


@pytest.mark.parametrize("encoding", PACKED_BY)
def test_a_piece_that_breaks_ends_the_message(encoding: str) -> None:
    pack = PACKED_BY[encoding]
    broken = bytearray(pack(bytes(range(256)) * 9))
    broken[-12:] = bytes(12)
    found, is_cut = message_of([pack(MAIL), bytes(broken)], content_encoding=encoding)
    assert is_cut
    assert found.startswith(MAIL)


@pytest.mark.parametrize("encoding", PACKED_BY)
def test_what_follows_a_packed_message_is_not_gathered(encoding: str) -> None:
    chunk = b"x" * 65_536
    tracemalloc.start()
    read = message_of([PACKED_BY[encoding](MAIL), *[chunk] * 300], content_encoding=encoding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == (MAIL, True)
    assert peak < 20 * len(chunk)


def test_older_rspamc_says_compression() -> None:
    assert message_of([zstd.compress(MAIL)], compression="zstd") == (MAIL, False)
    with pytest.raises(UnknownEncoding):
        message_of([MAIL], compression="lz4")
    assert message_of([MAIL], content_encoding="identity") == (MAIL, False)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_packed_file_is_read_though_nobody_said_so(encoding: str) -> None:
    packed = PACKED_BY[encoding](MAIL)
    assert message_of([packed[:1], packed[1:]]) == (MAIL, False)
    long = PACKED_BY[encoding](MAIL + b"x" * MOST)
    found, is_cut = message_of([long])
    assert found.startswith(MAIL)
    assert len(found) == MOST
    assert is_cut


def test_what_is_held_of_a_message_is_counted_up_to_the_most() -> None:
    def held(*chunks: bytes) -> int:
        request = request_of(chunks, 2000)
        asyncio.run(read_message(request))
        context: Context = request.scope[SCOPE_KEY]
        return context.held_bytes

    packed = gzip.compress(MAIL)
    assert held(packed) == len(packed) + len(MAIL)
    assert held(MAIL) == len(MAIL)
    assert held(*[b"x" * 1500] * 9) == 3000


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_only_begins_as_packed_is_read_as_it_is(encoding: str) -> None:
    packed = PACKED_BY[encoding](b"Are we still on for dinner?")
    for raw in (packed[:4] + b": x\n" + MAIL, packed + MAIL, packed[:-3], packed[:4]):
        assert message_of([raw]) == (raw, False)
        assert unpack_undeclared(raw, 1000) is raw


def test_an_encoding_that_is_none_is_refused() -> None:
    with pytest.raises(UnknownEncoding, match="gzip, deflate, zstd"):
        Decompressor("br")
    with pytest.raises(MalformedBody, match="not what its Content-Encoding says"):
        Decompressor("gzip").decompress(b"plain", 100)
