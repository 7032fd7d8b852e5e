"""Request bodies: read with a limit, and decoded so that no message content is ever an error.

Mail filters post what they received: bytes that are not UTF-8 inside JSON strings, NUL, half
surrogates, any content type or none, gzip, zstd. Only a body that is not JSON, or too large, is
refused.
"""

import json
import sys
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.errors import BodyTooLarge, MalformedBody, QueueFull, UnknownEncoding
from app.problems import SCOPE_KEY
from app.settings import Settings

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

_FREE_BYTES = 65_536
# What a value takes in memory at most, of each mark that begins it, beside its text: CPython's
# empty objects take 64 bytes, lists of one value 97, short texts of emoji 105 with their own 9.
_BYTES_OF_MARK = 96
_MARKS = "[{,:"
# That a body may have beside those of its texts: chats have parts, and others say what is not read.
_MORE_MARKS = 100_000

# What a zstd frame may ask to be kept in memory: the least that every decoder takes (RFC 9659).
_ZSTD_WINDOW_LOG = 23
# How many pieces end to end a packed body may have: tools that pack by threads make one a thread.
_MOST_PIECES = 64
# How a piece of gzip and of zstd begins.
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class BodyBudget:
    """The bytes of bodies that are held at a time, those of each request until it is answered.

    Else a few hundred large bodies at once would take all memory, whatever the queue refuses. The
    first 64 KiB of a body do not count: clients that never come to an end of theirs shut out large
    ones, but no message of usual size.

    What counts are the bytes as they came, those after decompression, and 96 for each mark that
    begins a JSON value: 8 MiB of ``{},`` are 200 MiB once they are read. Texts themselves do not
    count again, though Python takes up to four bytes a character where one of a text is an emoji.
    """

    def __init__(self, settings: Settings) -> None:
        # Any body that is allowed has room: as it came, decompressed beside it, and read as texts.
        of_texts = 2 * settings.max_body_bytes + _BYTES_OF_MARK * (settings.max_texts + _MORE_MARKS)
        self._max_bytes = max(settings.max_pending_bytes, of_texts)
        self._held_bytes = 0

    def hold(self, request: Request, num_bytes: int) -> None:
        """Counts bytes that were read of a request's body, or that its values will take.

        Raises:
            QueueFull: so many are not held.
        """
        context = request.scope[SCOPE_KEY]
        more = _counted(context.held_bytes + num_bytes) - _counted(context.held_bytes)
        if self._held_bytes + more > self._max_bytes:
            raise QueueFull(
                f"The bodies of the requests under way have {self._held_bytes} bytes; at most "
                f"{self._max_bytes} are held. Try again later, or elsewhere.",
                retry_after_seconds=1,
            )
        self._held_bytes += more
        context.held_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """Takes off what a request that has been answered held, given all of its bytes."""
        self._held_bytes -= _counted(num_bytes)


def _counted(num_bytes: int) -> int:
    return max(num_bytes - _FREE_BYTES, 0)


class JSONRoute(APIRoute):
    """A route that reads its JSON body as above; its errors are those of ``app.errors``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_then_handle(request: Request) -> Response:
            lenient = _LenientRequest(request)
            # Here, not inside FastAPI, which would answer any error of reading in its own words.
            await lenient.json()
            return await handle(lenient)

        return read_then_handle


async def read_json(request: Request) -> Any:
    """The value of a JSON body, for routes that take other bodies, too; None where it is empty.

    Raises:
        BodyTooLarge, QueueFull, UnknownEncoding, MalformedBody: see ``_LenientRequest``.
    """
    return await _LenientRequest(request).json()


class _LenientRequest(Request):
    def __init__(self, request: Request) -> None:
        # Without a content type FastAPI takes the body for JSON, whatever the client called it.
        headers = [header for header in request.scope["headers"] if header[0] != b"content-type"]
        super().__init__(dict(request.scope, headers=headers), request.receive)
        settings: Settings = request.app.state.service.settings
        self._max_bytes = settings.max_body_bytes
        self._max_marks = settings.max_texts + _MORE_MARKS
        self._budget: BodyBudget = request.app.state.body_budget

    async def body(self) -> bytes:
        """The whole body, decompressed.

        Raises:
            BodyTooLarge: more than ``max_body_bytes``, as it came or decompressed; the rest is not
                read.
            QueueFull: too much is held already.
            UnknownEncoding: compressed neither by gzip nor by deflate nor by zstd.
            MalformedBody: not what its Content-Encoding says.
        """
        if not hasattr(self, "_body"):
            declared = self.headers.get("content-length", "0").lstrip("0")
            # Of any with more digits than that these are too large; Python takes 4,300 at most.
            if declared.isdecimal() and int(declared[:20]) > self._max_bytes:
                raise self._too_large(f"{declared} bytes")
            body = bytearray()
            async for chunk in self.stream():
                self._budget.hold(self, len(chunk))
                body += chunk
                if len(body) > self._max_bytes:
                    raise self._too_large(f"more than {self._max_bytes} bytes")
            self._body = self._decompress(bytes(body))
        return self._body

    async def json(self) -> Any:
        """The value of the body; None where it is empty.

        Raises:
            BodyTooLarge, QueueFull: of too many values, or see ``body``.
            UnknownEncoding: see ``body``.
            MalformedBody: not JSON, or see ``body``.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            text = body.decode(json.detect_encoding(body), "replace")
            self._hold_values(text)
            try:
                # Not strict: mail filters leave control characters as they are.
                self._json = json.loads(text, strict=False) if text else None
            except json.JSONDecodeError as error:
                reason = error.msg.removesuffix(" at")  # which some of them end in
                raise _malformed(f"{reason} at character {error.pos}") from None
            except ValueError:
                raise _malformed("a number of it has thousands of digits") from None
            except RecursionError:
                raise _malformed("its brackets are nested thousands of levels deep") from None
        return self._json

    def _hold_values(self, text: str) -> None:
        """Counts what the values of a body will take, before any is made.

        Raises:
            BodyTooLarge: it has more of them than any request that is answered.
            QueueFull: too much is held already.
        """
        if _BYTES_OF_MARK * len(text) < _FREE_BYTES:
            return  # those of one message count no more than its bytes
        # Without escapes each quote begins or ends a text, and a text says nothing about values.
        unescaped = text.replace(r"\\", "").replace(r"\"", "")
        pieces = unescaped.split('"', 2 * self._max_marks)
        outside = "".join(pieces[::2])
        num_marks = sum(map(outside.count, _MARKS))
        if num_marks > self._max_marks:
            raise BodyTooLarge(
                f"The body has more than {self._max_marks} brackets, commas and colons outside of "
                "texts; no more are read. Send less in one request."
            )
        self._budget.hold(self, _BYTES_OF_MARK * num_marks)

    def _decompress(self, body: bytes) -> bytes:
        decompressor = decompressor_for(self)
        if decompressor is None:
            return body
        decompressed = decompressor.decompress(body, self._max_bytes + 1)
        if len(decompressed) > self._max_bytes:
            raise self._too_large(f"more than {self._max_bytes} bytes after decompression")
        if decompressor.is_followed:
            raise MalformedBody("The compressed body has data after its end: send it without.")
        if not decompressor.is_complete:
            raise MalformedBody("The compressed body is cut off: send all of it.")
        self._budget.hold(self, len(decompressed))
        return decompressed

    def _too_large(self, came: str) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body has {came}; at most {self._max_bytes} are read. Send less in one request, "
            "or raise SPAMGATE_MAX_BODY_BYTES."
        )


class Decompressor:
    """Unpacks a body that comes in chunks: gzip, deflate or zstd, in one piece or several end to
    end, as both formats allow.

    Attributes:
        is_followed: whether something stands behind the last piece; it is left out.
    """

    def __init__(self, encoding: str) -> None:
        """Begins.

        Args:
            encoding: as Content-Encoding names it.

        Raises:
            UnknownEncoding: none of these three.
        """
        self._encoding = encoding
        self._piece = self._begin_piece()
        self._num_pieces = 1
        self.is_followed = False

    @property
    def is_complete(self) -> bool:
        """Whether all that came is unpacked, and the last piece has ended."""
        return self._piece.eof and not self.is_followed

    def decompress(self, chunk: bytes, most: int) -> bytes:
        """What the next chunk adds, its first ``most`` bytes; the rest of it is dropped.

        Raises:
            MalformedBody: the body begins as something else, or its first piece is broken.
        """
        found: list[bytes] = []
        while chunk and most > 0 and not self.is_followed:
            if (begins := self._piece.eof) and self._num_pieces == _MOST_PIECES:
                self.is_followed = True
                break
            piece = self._begin_piece() if begins else self._piece
            try:
                found.append(piece.decompress(chunk, most))
            except (zlib.error, zstd.ZstdError):
                if self._num_pieces == 1 and not begins:
                    raise MalformedBody("The body is not what its Content-Encoding says.") from None
                self.is_followed = True
                break
            most -= len(found[-1])
            self._num_pieces += begins
            self._piece, chunk = piece, piece.unused_data
        return b"".join(found)

    def _begin_piece(self) -> "zlib._Decompress | zstd.ZstdDecompressor":
        match self._encoding:
            case "gzip" | "x-gzip" | "deflate":
                return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # takes both headers
            case "zstd":  # of rspamc
                limit = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
                return zstd.ZstdDecompressor(options=limit)
        raise UnknownEncoding("Content-Encoding may be gzip, deflate, zstd or identity.")


def decompressor_for(request: Request) -> Decompressor | None:
    """What decompresses the body of a request; None where it is not compressed.

    Raises:
        UnknownEncoding: compressed neither by gzip nor by deflate nor by zstd.
    """
    # The second is what rspamc said before it learnt the first.
    said = request.headers.get("content-encoding") or request.headers.get("compression") or ""
    encoding = said.strip().lower()
    return None if encoding in ("", "identity") else Decompressor(encoding)


def unpack_undeclared(body: bytes, most: int) -> bytes:
    """A body that is packed by gzip or zstd throughout, unpacked, its first ``most`` bytes; any
    other as it is.

    A mail store can pack its files, and curl sends one without a word of it. No message begins so,
    and one made to would be read as it is, were anything behind what it packs.
    """
    encoding = next((_MAGIC[magic] for magic in _MAGIC if body.startswith(magic)), None)
    if encoding is None:
        return body
    decompressor = Decompressor(encoding)
    try:
        unpacked = decompressor.decompress(body, most)
    except MalformedBody:
        return body
    return unpacked if decompressor.is_complete or len(unpacked) == most else body


def _malformed(reason: str) -> MalformedBody:
    return MalformedBody(f"The body cannot be read as JSON: {reason}. See /docs for the form.")
