"""python -m app.spamd: the protocol of SpamAssassin's spamd in front of the HTTP service.

For Exim, spamc, spamass-milter, Amavis and whatever else speaks it. A process of its own that holds
no model: it asks ``POST /checkv2``. Where no verdict comes in time it answers 75 (EX_TEMPFAIL), at
which clients let the message pass unless they are told otherwise.
"""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import take_ctrl_c
from app.settings import Key, wrong_settings

_COMMANDS = ("CHECK", "SYMBOLS", "REPORT", "REPORT_IFSPAM", "HEADERS", "PROCESS", "TELL")
_MAX_FIELDS = 64
_CHUNK_BYTES = 65_536
_MARK = re.compile(
    rb"^X-Spam-[!-9;-~]*[ \t]*:.*(?:\n[ \t].*)*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE
)
_END_OF_FIELDS = re.compile(rb"(?:\A|\n)\r?\n")


class SpamdSettings(BaseSettings):
    """Answer the spamd protocol from a running spamgate service.

    Each setting is a flag, or the environment variable SPAMGATE_SPAMD_ and its name.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPAMGATE_SPAMD_",
        cli_kebab_case=True,
        cli_prog_name="python -m app.spamd",
        cli_hide_none_type=True,
        extra="ignore",
        frozen=True,
    )

    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; the protocol knows no keys"
    )
    port: int = Field(783, ge=0, le=65535, description="TCP port; 0 takes any free one")
    url: str = Field(
        "http://127.0.0.1:8000",
        pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[^/:\s\[\]]+)(:\d+)?(/\S*)?$",
        description="the service that is asked",
    )

    @field_validator("url")
    @classmethod
    def _has_a_port(cls, url: str) -> str:
        urlsplit(url).port  # noqa: B018  # raises
        return url

    key: Key = Field(None, description="access key of the service, if it wants one")
    feedback_key: Key = Field(
        None, description="key of POST /feedback, where TELL goes; without it TELL is refused"
    )
    timeout_seconds: float = Field(
        4.0, ge=0.001, le=3600, description="time for a verdict, then 75"
    )
    read_seconds: float = Field(
        60.0, gt=0, description="time for a client to send, and to take its answer"
    )
    max_message_bytes: int = Field(
        8 << 20,
        ge=1024,
        description="read of a message at most; PROCESS, which gives it back, answers 75 beyond",
    )
    max_connections: int = Field(64, ge=1, description="served at once; others wait")


class ProtocolError(Exception):
    """A request that is none of the spamd protocol."""


class NoVerdict(Exception):
    """The service did not answer, or not with a verdict."""


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


class Spamd:
    """The listener. ``serve`` runs until it is cancelled."""

    def __init__(self, settings: SpamdSettings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.url)
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._threads = ThreadPoolExecutor(settings.max_connections, "ask")
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> asyncio.Server:
        """Opens the port."""
        return await asyncio.start_server(
            self._serve_client, self._settings.host, self._settings.port
        )

    async def finish(self) -> None:
        """Waits for the answers under way, no longer than a verdict may take."""
        if self._clients:
            await asyncio.wait(self._clients, timeout=self._settings.timeout_seconds + 1)

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if task := asyncio.current_task():
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            async with self._slots:
                writer.write(await self._answer(reader))
                await self._finish(writer)
        writer.close()

    async def _finish(self, writer: asyncio.StreamWriter) -> None:
        """Closes once the client has taken its answer; cuts one off that does not in time."""
        writer.close()
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                await writer.wait_closed()
        except TimeoutError:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                request = await read_request(reader, self._settings.max_message_bytes)
            if request.command == "PING":
                return b"SPAMD/1.5 0 PONG\r\n"
            if request.command == "SKIP":
                return b""
            if request.command == "PROCESS" and request.is_cut:
                raise NoVerdict("a message too long to be given back")  # the rest would be lost
            loop = asyncio.get_running_loop()
            if request.command == "TELL":
                return await loop.run_in_executor(self._threads, self._tell, request)
            verdict = await loop.run_in_executor(self._threads, self._check, request.message)
            return format_reply(request, verdict)
        except NoVerdict as error:
            print(f"spamgate: no verdict: {error}", file=sys.stderr, flush=True)  # noqa: T201
            return b"SPAMD/1.5 75 EX_TEMPFAIL\r\n\r\n"
        except (ProtocolError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            return f"SPAMD/1.0 76 Bad header line: {type(error).__name__}\r\n".encode()

    def _check(self, message: bytes) -> Verdict:
        answer = self._post("/checkv2", message, self._settings.key)
        try:
            return Verdict(
                is_spam=answer["action"] != "no action",
                score=float(answer["score"]),
                required_score=float(answer["required_score"]),
                symbols=list(answer["symbols"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NoVerdict("an answer of another form") from error

    def _tell(self, request: Request) -> bytes:
        key = self._settings.feedback_key
        label = request.fields.get("message-class", "").lower()
        sets_local = "local" in request.fields.get("set", "").lower()
        if key is None or label not in ("spam", "ham") or not sets_local:
            return (
                b"SPAMD/1.0 69 Service Unavailable: TELL needs a feedback key, and takes "
                b"Set: local with Message-class: spam or ham.\r\n"
            )
        source = f"spamd:{request.fields.get('user', '')}"
        query = urlencode({"label": label, "source": source}, encoding="latin-1")  # as it came
        self._post(f"/feedback?{query}", request.message, key)
        return b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n"

    def _post(self, path: str, message: bytes, key: SecretStr | None) -> dict[str, Any]:
        seconds = self._settings.timeout_seconds
        headers = {"Content-Type": b"message/rfc822", "X-Timeout-Ms": b"%d" % (1000 * seconds)}
        if key:  # in UTF-8, as the service reads it
            headers["Authorization"] = f"Bearer {key.get_secret_value()}".encode()
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=seconds)
        try:
            connection.request("POST", self._url.path.rstrip("/") + path, message, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoVerdict(type(error).__name__) from error
        finally:
            connection.close()
        if response.status != 200 or not isinstance(answer, dict):
            raise NoVerdict(f"status {response.status}")
        return answer


async def read_request(reader: asyncio.StreamReader, max_message_bytes: int) -> Request:
    """Reads one request, to its stated length or the end of the stream.

    Raises:
        ProtocolError: not the spamd protocol.
    """
    words = (await reader.readline()).decode("latin-1").split()
    if len(words) != 2 or not words[1].startswith("SPAMC/"):
        raise ProtocolError
    command, version = words[0].upper(), float(words[1].removeprefix("SPAMC/"))
    if command in ("PING", "SKIP"):
        return Request(command, version, {}, b"")
    if command not in _COMMANDS:
        raise ProtocolError
    fields = await _read_fields(reader)
    message, is_cut = await _read_message(reader, fields.get("content-length"), max_message_bytes)
    if "compress" in fields:
        if fields["compress"].lower() != "zlib":
            raise ProtocolError
        message, is_cut = _inflate(message, is_cut, max_message_bytes)
    return Request(command, version, fields, message, is_cut)


async def _read_fields(reader: asyncio.StreamReader) -> dict[str, str]:
    fields: dict[str, str] = {}
    for _ in range(_MAX_FIELDS):
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise ProtocolError
        name, _, value = line.decode("latin-1").strip().partition(":")
        if not name:
            return fields
        fields[name.lower()] = value.strip()
    raise ProtocolError


async def _read_message(
    reader: asyncio.StreamReader, stated: str | None, most: int
) -> tuple[bytes, bool]:
    """The message, and whether it is cut at the bound. One that ends before its stated length is
    refused: PROCESS would give back half of it for the whole."""
    if stated is not None and not stated.isdecimal():
        raise ProtocolError
    rest = sys.maxsize if stated is None else int(stated)
    message, is_cut = bytearray(), False
    while rest > 0 and (chunk := await reader.read(min(rest, _CHUNK_BYTES))):
        rest -= len(chunk)
        is_cut |= len(message) + len(chunk) > most
        message += chunk[: most - len(message)]
    if stated is not None and rest:
        raise ProtocolError
    return bytes(message), is_cut


def _inflate(packed: bytes, is_cut: bool, most: int) -> tuple[bytes, bool]:
    inflater = zlib.decompressobj()
    try:
        message = inflater.decompress(packed, most + 1)
    except zlib.error as error:
        raise ProtocolError from error
    is_cut |= len(message) > most
    if not (inflater.eof or is_cut):
        raise ProtocolError
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


async def serve(settings: SpamdSettings) -> None:
    """Listens until SIGTERM or SIGINT, and answers what came before."""
    listener = Spamd(settings)
    server = await listener.start()
    port = server.sockets[0].getsockname()[1]
    print(f"spamgate: spamd protocol on {settings.host}:{port}", file=sys.stderr, flush=True)  # noqa: T201
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    server.close()
    await listener.finish()


def main() -> int:
    """Serves until a signal; returns the exit code."""
    take_ctrl_c()
    try:
        settings = SpamdSettings(_cli_parse_args=sys.argv[1:])
        asyncio.run(serve(settings))
    except ValidationError as error:
        problem = str(wrong_settings(error, "SPAMGATE_SPAMD_"))
    except (OSError, UnicodeError) as error:  # a host's name that cannot be one
        problem = str(error)
    else:
        return 0
    print(f"spamgate: {problem}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
