"""python -m app.spamd: the protocol of SpamAssassin's spamd in front of the HTTP service.

For Exim, spamc, spamass-milter, Amavis and whatever else speaks it. A process of its own that holds
no model: it asks ``POST /checkv2``. Where no verdict comes in time it answers 75 (EX_TEMPFAIL), at
which clients let the message pass unless they are told otherwise.
"""

import asyncio
import contextlib
import http.client
import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import raise_file_limit, take_ctrl_c
from app.settings import NONE, Key, from_flags, unread_variables, wrong_settings
from app.spamd_protocol import (
    Hold,
    ProtocolError,
    Request,
    Verdict,
    format_reply,
    read_request,
)

# Clients that send, wait for their turn or take their answer, beside each that is asked for.
_CLIENTS_OF_A_SLOT = 16
# Open files that are not of clients: the port, and connections that are accepted to be refused.
_SPARE_FILES = 256
# Between two lines of a log that might come with each connection.
_LOG_SECONDS = 60.0
# What a message may have that is not counted: large ones are refused before the usual ones.
_FREE_BYTES = 65_536
# Without the blank line: of a reply to TELL that has one spamc does not look at the number.
_NOT_TAKEN = b"SPAMD/1.0 75 EX_TEMPFAIL\r\n"


class SpamdSettings(BaseSettings):
    """Answer the spamd protocol from a running spamgate service.

    Each setting is a flag, or the environment variable SPAMGATE_SPAMD_ and its name.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPAMGATE_SPAMD_",
        cli_kebab_case=True,
        cli_prog_name="python -m app.spamd",
        cli_hide_none_type=True,
        cli_parse_none_str=NONE,
        extra="ignore",
        frozen=True,
    )

    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; the protocol knows no keys"
    )
    port: int = Field(783, ge=0, le=65535, description="TCP port; 0 takes any free one")
    url: str = Field(
        "http://127.0.0.1:8000",
        pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[\w-]+(\.[\w-]+)*\.?)(:\d+)?(/[!-\"$->@-~]*)?$",
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
        4.0, ge=0.001, le=3600, description="time for each wait for the service, then 75"
    )
    read_seconds: float = Field(
        60.0, gt=0, le=3600, description="time for a client to send, and to take its answer"
    )
    max_message_bytes: int = Field(
        8 << 20,
        ge=1024,
        le=1 << 40,
        description="read of a message at most; PROCESS, which gives it back, answers 75 beyond",
    )
    max_connections: int = Field(
        64, ge=1, description="asked for at once; others wait, beyond 16 times as many answer 75"
    )


class NoVerdict(Exception):
    """The service did not answer, or not with a verdict."""


class LabelNotKept(Exception):
    """The service did not answer, or did not take what TELL told."""


class Crowded(Exception):
    """More of the clients' messages than is held."""


class Spamd:
    """The listener: ``start``, then ``finish``.

    Args:
        max_files: that the process may have open.
    """

    def __init__(self, settings: SpamdSettings, max_files: int = 65_536) -> None:
        self._settings = settings
        self._url = urlsplit(settings.url)
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._threads = ThreadPoolExecutor(settings.max_connections, "ask")
        self._clients: set[asyncio.Task[None]] = set()
        of_files = (max_files - _SPARE_FILES) // 2  # who is asked for takes two
        self._max_clients = max(1, min(_CLIENTS_OF_A_SLOT * settings.max_connections, of_files))
        # Any message has room while others wait, as it came and inflated beside it.
        self._max_held_bytes = settings.max_message_bytes * (settings.max_connections + 1)
        self._held_bytes = 0
        self._log_again: dict[str, float] = {}

    async def start(self) -> asyncio.Server:
        """Opens the port."""
        asyncio.get_running_loop().set_exception_handler(self._tell_error)
        return await asyncio.start_server(
            self._serve_client, self._settings.host, self._settings.port
        )

    async def finish(self) -> None:
        """Waits for the answers under way, no longer than a verdict may take."""
        if self._clients:
            await asyncio.wait(self._clients, timeout=self._settings.timeout_seconds + 1)

    def _tell_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs what went wrong in the loop, but no traceback for each connection for which no file
        is left."""
        if "out of system resource" in context["message"]:
            self._log_seldom("no connection is taken: too many open files")
        else:
            loop.default_exception_handler(context)

    def _log_seldom(self, line: str) -> None:
        """Logs what may come with each connection, once a minute."""
        now = time.monotonic()
        if now >= self._log_again.get(line, now):
            self._log_again[line] = now + _LOG_SECONDS
            _log(line)

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(self._clients) >= self._max_clients:
            self._log_seldom("no verdict: too many clients at once")
            writer.write(_NOT_TAKEN)
            writer.close()
            return
        if task := asyncio.current_task():
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError), self._holding() as hold:
            writer.write(await self._answer(reader, hold))
            await self._finish(writer)
        writer.close()

    @contextlib.contextmanager
    def _holding(self) -> Iterator[Hold]:
        """What counts the bytes of a client's message, until it has its answer."""
        own = 0

        def hold(num_bytes: int) -> None:
            nonlocal own
            more = max(own + num_bytes - _FREE_BYTES, 0) - max(own - _FREE_BYTES, 0)
            if self._held_bytes + more > self._max_held_bytes:
                raise Crowded("too many large messages at once")
            self._held_bytes += more
            own += num_bytes

        try:
            yield hold
        finally:
            self._held_bytes -= max(own - _FREE_BYTES, 0)

    async def _finish(self, writer: asyncio.StreamWriter) -> None:
        """Closes once the client has taken its answer; cuts one off that does not in time."""
        writer.close()
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                await writer.wait_closed()
        except TimeoutError:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, hold: Hold) -> bytes:
        try:
            async with asyncio.timeout(self._settings.read_seconds):
                request = await read_request(reader, self._settings.max_message_bytes, hold)
            if request.command == "PING":
                return b"SPAMD/1.5 0 PONG\r\n"
            if request.command == "SKIP":
                return b""
            if request.command == "PROCESS" and request.is_cut:
                raise NoVerdict("a message too long to be given back")  # the rest would be lost
            loop = asyncio.get_running_loop()
            answer = self._tell if request.command == "TELL" else self._check
            async with self._slots:
                return await loop.run_in_executor(self._threads, answer, request)
        except Crowded as error:
            _log(f"no verdict: {error}")
            return _NOT_TAKEN
        except LabelNotKept as error:
            _log(f"label not kept: {error}")
            return _NOT_TAKEN
        except NoVerdict as error:
            _log(f"no verdict: {error}")
            return b"SPAMD/1.5 75 EX_TEMPFAIL\r\n\r\n"
        except asyncio.IncompleteReadError:
            return b"SPAMD/1.0 76 Bad header line: nothing came\r\n"
        except TimeoutError:
            late = f"the request did not end in {self._settings.read_seconds:g} s"
            _log(f"no request: {late}")
            return f"SPAMD/1.0 79 Timeout: {late}\r\n".encode()
        except ProtocolError as error:
            _log(f"no request: {error}")
            return f"SPAMD/1.0 76 Bad header line: {error}\r\n".encode()

    def _check(self, request: Request) -> bytes:
        answer = self._post("/checkv2", request.message, self._settings.key)
        try:
            verdict = Verdict(
                is_spam=answer["action"] != "no action",
                score=float(answer["score"]),
                required_score=float(answer["required_score"]),
                symbols=list(answer["symbols"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NoVerdict("an answer of another form") from error
        return format_reply(request, verdict)

    def _tell(self, request: Request) -> bytes:
        key = self._settings.feedback_key
        label = request.fields.get("message-class", "").lower()
        if key is None or label not in ("spam", "ham") or "local" not in request.places("set"):
            return (
                b"SPAMD/1.0 69 Service Unavailable: TELL needs a feedback key, and takes "
                b"Set: local with Message-class: spam or ham.\r\n"
            )
        source = f"spamd:{request.fields.get('user', '')}"
        query = urlencode({"label": label, "source": source}, encoding="latin-1")  # as it came
        try:
            self._post(f"/feedback?{query}", request.message, key)
        except NoVerdict as error:
            raise LabelNotKept(str(error)) from error
        return b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n"

    def _post(self, path: str, message: bytes, key: SecretStr | None) -> dict[str, Any]:
        seconds = self._settings.timeout_seconds
        headers = {"Content-Type": b"message/rfc822", "X-Timeout-Ms": b"%d" % (1000 * seconds)}
        if key:  # in UTF-8, as the service reads it
            bearer = f"Bearer {key.get_secret_value()}"
            headers["Authorization"] = bearer.encode("utf-8", "surrogateescape")
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


def _log(line: str) -> None:
    print(f"spamgate: {line}", file=sys.stderr, flush=True)  # noqa: T201


async def serve(settings: SpamdSettings) -> None:
    """Listens until SIGTERM or SIGINT, and answers what came before."""
    listener = Spamd(settings, raise_file_limit())
    server = await listener.start()
    port = server.sockets[0].getsockname()[1]
    _log(f"spamd protocol on {settings.host}:{port}")
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
        settings = from_flags(SpamdSettings, sys.argv[1:])
        if unread := unread_variables(SpamdSettings):
            _log(f"no setting reads these variables: {', '.join(unread)}")
        asyncio.run(serve(settings))
    except ValidationError as error:
        problem = str(wrong_settings(error, "SPAMGATE_SPAMD_"))
    except (OSError, UnicodeError) as error:  # a host's name that cannot be one
        problem = f"cannot listen on {settings.host}:{settings.port}: {error}"
    else:
        return 0
    _log(problem)
    return 2


if __name__ == "__main__":
    sys.exit(main())
