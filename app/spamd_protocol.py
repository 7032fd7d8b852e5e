"""The protocol of SpamAssassin's spamd: requests read, replies worded. Knows nothing of HTTP."""

import asyncio
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_COMMANDS = ("CHECK", "SYMBOLS", "REPORT", "REPORT_IFSPAM", "HEADERS", "PROCESS", "TELL")
_MAX_FIELDS = 64
_REQUEST_LINE = re.compile(rb"\s*([A-Za-z_]+)\s+SPAMC/(\d{1,3}(?:\.\d{1,3})?)\s*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_BYTES = 65_536
_MARK = re.compile(
    rb"^X-Spam-[!-9;-~]*[ \t]*:.*(?:\n[ \t].*)*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE
)
_END_OF_FIELDS = re.compile(rb"(?:\A|\n)\r?\n")

Hold = Callable[[int], None]
"""Counts bytes that are held of a message; raises where those are too many."""


class ProtocolError(Exception):
    """A request that is none of the spamd protocol; says what came, and nothing of a message."""


@dataclass(frozen=True)
class Request:
    """What a client sent.

    Attributes:
        command: one of the protocol's.
        version: of the protocol, such as 1.5; decides the form of the reply.
        fields: in lower case.
        message: raw.
        is_cut: whether it was longer.
    """

    command: str
    version: float
    fields: dict[str, str]
    message: bytes
    is_cut: bool = False

    def places(self, name: str) -> set[str]:
        """What such a field of TELL lists: local, remote or both."""
        return {place.strip() for place in self.fields.get(name, "").lower().split(",")}


@dataclass(frozen=True)
class Verdict:
    """What the service says of a message."""

    is_spam: bool
    score: float
    required_score: float
    symbols: list[str]

    @property
    def points(self) -> tuple[float, float]:
        """Score and required score to one digit. What is no spam stays below, where both round to
        the same: Exim goes by the numbers alone."""
        score, required = round(self.score, 1), round(self.required_score, 1)
        return score if self.is_spam else min(score, required - 0.1), required


async def read_request(reader: asyncio.StreamReader, max_message_bytes: int, hold: Hold) -> Request:
    """Reads one request, to its stated length or the end of the stream.

    Raises:
        ProtocolError: not the spamd protocol.
        IncompleteReadError: nothing came at all, as where only the port was looked at.
    """
    line = await _read_line(reader)
    if not line:
        raise asyncio.IncompleteReadError(b"", None)
    first = _REQUEST_LINE.fullmatch(line)
    if not first:
        raise ProtocolError("the request does not begin with a command and SPAMC/1.5")
    command, version = first[1].decode().upper(), float(first[2])
    if command in ("PING", "SKIP"):
        return Request(command, version, {}, b"")
    if command not in _COMMANDS:
        raise ProtocolError(f"the command is none of {', '.join(_COMMANDS)}, PING, SKIP")
    fields = await _read_fields(reader) if version > 1.0 else {}  # 1.0 has none
    stated = fields.get("content-length")
    message, is_cut = await _read_message(reader, stated, max_message_bytes, hold)
    if "compress" in fields:
        if fields["compress"].lower() != "zlib":
            raise ProtocolError("Compress may be zlib")
        message, is_cut = _decompress(message, is_cut, max_message_bytes)
        hold(len(message))
    return Request(command, version, fields, message, is_cut)


async def _read_fields(reader: asyncio.StreamReader) -> dict[str, str]:
    fields: dict[str, str] = {}
    for _ in range(_MAX_FIELDS):
        line = await _read_line(reader)
        if not line.endswith(b"\n"):
            raise ProtocolError("the request ends among its fields")
        name, _, value = line.decode("latin-1").strip().partition(":")
        if not name:
            return fields
        fields[name.lower()] = value.strip()
    raise ProtocolError(f"there are more than {_MAX_FIELDS - 1} fields")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:  # 64 KiB
        raise ProtocolError("a line is too long") from error


async def _read_message(
    reader: asyncio.StreamReader, stated: str | None, most: int, hold: Hold
) -> tuple[bytes, bool]:
    """The message, and whether it is cut at the bound. One that ends before its stated length, or
    goes on behind it in the same line, is refused: PROCESS would give back half of it."""
    if stated is not None and not _LENGTH.fullmatch(stated):
        raise ProtocolError("Content-length is no number of bytes")
    rest = sys.maxsize if stated is None else int(stated)
    message, is_cut = bytearray(), False
    while rest > 0 and (chunk := await reader.read(min(rest, _CHUNK_BYTES))):
        rest -= len(chunk)
        is_cut |= len(message) + len(chunk) > most
        kept = chunk[: most - len(message)]
        hold(len(kept))
        message += kept
    is_short = stated is not None and rest > 0
    is_long = stated is not None and not message.endswith(b"\n") and await _has_more(reader)
    if is_short or is_long:
        raise ProtocolError("Content-length is not the length of the message")
    return bytes(message), is_cut


async def _has_more(reader: asyncio.StreamReader) -> bool:
    """Whether something has come that was not read."""
    try:
        async with asyncio.timeout(0):
            return bool(await reader.read(1))
    except TimeoutError:
        return False


def _decompress(compressed: bytes, is_cut: bool, most: int) -> tuple[bytes, bool]:
    decompressor = zlib.decompressobj()
    try:
        message = decompressor.decompress(compressed, most + 1)
    except zlib.error as error:
        raise ProtocolError("the message is not compressed by zlib") from error
    is_cut |= len(message) > most
    if not (decompressor.eof or is_cut):
        raise ProtocolError("the compressed message is cut off")
    return message[:most], is_cut


def format_reply(request: Request, verdict: Verdict) -> bytes:
    """The reply as the version of the client expects it; as SpamAssassin 4.0's spamd words it."""
    yes, no = ("Yes", "No") if request.command == "REPORT_IFSPAM" else ("True", "False")
    score, required = verdict.points
    spam = f"Spam: {yes if verdict.is_spam else no} ; {score:.1f} / {required:.1f}\r\n"
    if request.command == "CHECK":
        return f"SPAMD/1.1 0 EX_OK\r\n{spam}\r\n".encode()
    body = _reply_body(request, verdict)
    length = f"Content-length: {len(body)}\r\n"
    rewrites = request.command in ("PROCESS", "HEADERS")
    if request.version >= 1.3:
        head = f"{length}{spam}\r\n"
    elif rewrites:
        head = f"{length}\r\n" if request.version >= 1.2 else ""
    else:
        head = f"{spam}\r\n"
    return f"SPAMD/1.1 0 EX_OK\r\n{head}".encode() + body


def _reply_body(request: Request, verdict: Verdict) -> bytes:
    tests = ",".join(verdict.symbols) if verdict.is_spam else ""
    if request.command == "SYMBOLS":
        return tests.encode() + (b"" if request.version >= 1.3 else b"\r\n")
    if request.command in ("PROCESS", "HEADERS"):
        return mark_message(request.message, verdict, headers_only=request.command == "HEADERS")
    if request.command == "REPORT_IFSPAM" and not verdict.is_spam:
        return b""
    score, required = verdict.points
    spam = ", spam" if verdict.is_spam else ""
    return f"spamgate: {score:.1f} of {required:.1f} points{spam}\n".encode()


def mark_message(message: bytes, verdict: Verdict, *, headers_only: bool) -> bytes:
    """The message with X-Spam- fields on top; those that it brought along are taken out."""
    blank_line = _END_OF_FIELDS.search(message)
    end = blank_line.end() if blank_line else len(message)
    mbox, head = b"", message[:end]
    if head.startswith(b"From "):
        mbox, line_feed, head = head.partition(b"\n")
        mbox += line_feed
    head = _MARK.sub(b"", head)
    answer = "Yes" if verdict.is_spam else "No"
    tests = ",".join(verdict.symbols) if verdict.is_spam else "none"
    score, required = verdict.points
    fields = [
        f"X-Spam-Flag: {answer.upper()}",
        f"X-Spam-Status: {answer}, score={score:.1f} required={required:.1f} tests={tests}",
    ]
    line_end = "\r\n" if b"\r\n" in message[:end] else "\n"
    marks = "".join(field + line_end for field in fields).encode()
    return mbox + marks + head + (b"" if headers_only else message[end:])
