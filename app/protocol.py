"""One client's connection: uvicorn's own reading of HTTP, within bounds.

Uvicorn bounds neither the head of a request nor the time for it, and drops the body of a request
that asks for another protocol on the side, as Java's HttpClient does of its own accord.
"""

import asyncio
import random
from typing import cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import INVALID_HTTP
from app.problems import REFUSED_KEY
from app.schemas import ProblemResponse

_MAX_HEAD_BYTES = 65_536
_MAX_FIELDS = 1000  # as Python's objects a short one takes 24 times its bytes
# Haraka names each recipient in such a field, and a mail may have thousands; nobody reads them.
_UNREAD_FIELD = b"rcpt"
_MAX_UNREAD_FIELD_BYTES = 8 << 20
_TOO_LONG = "The head of the HTTP request is too long."
# Requests that wait on one connection for the answer to the one before.
_MAX_PIPELINED = 100
_ENCODING = b"transfer-encoding"
# What a client may still send of a body whose request has been answered, and is to be closed.
_LINGER_SECONDS = 2.0
# What is read of such a body until the connection is closed, which was to be kept: the rest of
# usual mail, so that who had sent all of it may go on.
_MAX_DROPPED_BYTES = 1 << 20


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head grows too long, or on which for ``timeout_keep_alive`` seconds
    nothing comes of a request, or nothing of an answer is taken; declines upgrades."""

    # Why no more is read; sent once what came before is answered.
    _refusal: ProblemResponse | None = None
    _unwritten_task: asyncio.TimerHandle | None = None
    # That is being answered; ``cycle`` is the last that came.
    _running: RequestResponseCycle | None = None
    _is_lingering = False
    _dropped_bytes = 0  # of a body whose request has been answered
    _unread_bytes = 0  # of head, chunk lines or trailers since the last piece that was whole
    _left_out_bytes = 0  # of a head, in fields that nobody reads

    @staticmethod
    def count_refused() -> None:
        """Is called for each request that is no HTTP, but for those that are under way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for a request, and not for ever."""
        super().connection_made(transport)
        # Of any byte that the client does not take, not only of those beyond 64 KiB, we are told.
        transport.set_write_buffer_limits(high=0)
        self._wait_for_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more, nor does who answers."""
        super().connection_lost(exc)
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._unset_keepalive_if_required()
        self._unset_unwritten_task()

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        super().pause_writing()
        self._wait_until_written()

    def resume_writing(self) -> None:
        """The client has taken all there was."""
        super().resume_writing()
        self._unset_unwritten_task()

    def data_received(self, data: bytes) -> None:
        """Reads what came."""
        if self._refusal or self._is_lingering:
            return
        self._wait_for_more()
        self._unread_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
        else:
            if self._unread_bytes > _MAX_HEAD_BYTES or len(self.headers or ()) > _MAX_FIELDS:
                self._refuse(_TOO_LONG)
            self._count_dropped(len(data))

    def shutdown(self) -> None:
        """Closes the connection, where a request is being answered after that."""
        super().shutdown()
        if self.cycle is not None:
            self._leave_out_keep_alive()

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection unless a request is being answered."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        self._unread_bytes = self._left_out_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head has come."""
        size = len(name) + len(value) + 4
        room = _MAX_UNREAD_FIELD_BYTES - self._left_out_bytes
        if name.lower() != _UNREAD_FIELD or size > room:
            if len(self.headers) <= _MAX_FIELDS:
                super().on_header(name, value)
            return
        self._left_out_bytes += size
        self._unread_bytes = max(0, self._unread_bytes - size)

    def on_headers_complete(self) -> None:
        """The head of a request has come."""
        self._unread_bytes = 0
        if self._refusal:
            return
        encodings = [value.strip().lower() for name, value in self.headers if name == _ENCODING]
        if encodings not in ([], [b"chunked"]):
            self._refuse("Of transfer encodings only chunked is read.")
        elif self._head_is_too_long():
            self._refuse(_TOO_LONG)
        elif len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse("Too many requests at once on one connection: wait for the answers.")
        elif not self.parser.should_upgrade():
            # Of its own: uvicorn would add trailers, which must not count as fields of the head.
            self.scope["headers"] = list(self.headers)
            super().on_headers_complete()
            if not self.cycle.keep_alive:
                self._leave_out_keep_alive()
                self.cycle.transport = cast("asyncio.Transport", _Lingering(self))

    def on_body(self, body: bytes) -> None:
        """A piece of a body has come."""
        self._unread_bytes = 0
        if not self._refusal:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole of a request has come."""
        if self._refusal or self.parser.should_upgrade():
            return
        if self._head_is_too_long():  # by trailers
            self._refuse(_TOO_LONG)
        else:
            super().on_message_complete()
            self.cycle.more_body = False  # of an answered request, too

    def on_response_complete(self) -> None:
        """A request has been answered."""
        if self._is_lingering:
            self.pipeline.clear()  # nobody reads an answer any more
        is_last = not self.pipeline
        super().on_response_complete()
        if self._refusal and is_last and not self.transport.is_closing():
            self._answer_refused(self._refusal)

    def _head_is_too_long(self) -> bool:
        """Whether what came of a head, in one piece or more, is beyond the bound."""
        fields = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.url) + fields > _MAX_HEAD_BYTES or len(self.headers) > _MAX_FIELDS

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _count_dropped(self, num_bytes: int) -> None:
        """Closes where the body of a request that has been answered goes on for too long."""
        if self.cycle is None or not (self.cycle.response_complete and self.cycle.more_body):
            self._dropped_bytes = 0
            return
        self._dropped_bytes += num_bytes
        if self._dropped_bytes > _MAX_DROPPED_BYTES:
            self.linger()

    def _wait_for_more(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _wait_until_written(self) -> None:
        self._unset_unwritten_task()
        size = self.transport.get_write_buffer_size()
        self._unwritten_task = self.loop.call_later(
            self.timeout_keep_alive, self._end_unless_written, size
        )

    def _end_unless_written(self, size_before: int) -> None:
        """Ends the connection where the client has taken nothing of so many bytes; to close it
        would wait until they are written."""
        if self.transport.get_write_buffer_size() < size_before:
            self._wait_until_written()
        else:
            self.transport.abort()

    def _unset_unwritten_task(self) -> None:
        if self._unwritten_task is not None:
            self._unwritten_task.cancel()
            self._unwritten_task = None

    def _leave_out_keep_alive(self) -> None:
        # Uvicorn says "close" beside what it was told to say always.
        said = self.cycle.default_headers
        self.cycle.default_headers = [header for header in said if header[0] != b"connection"]

    def _decline_upgrade(self, rest: bytes) -> None:
        """Reads a request again as if it had not asked for another protocol: the parser takes its
        body for the beginning of that."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse("Invalid HTTP request received.")
            return
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b" % (method, self.url, version)]
        head += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*head, b"", rest]))

    def _refuse(self, reason: str) -> None:
        """Ends the connection with 400, behind the answers to requests that were whole."""
        if self._refusal:
            return
        problem = self._refusal = ProblemResponse(
            title="The request is not as HTTP has it",
            status=400,
            detail=reason,
            code=INVALID_HTTP,
            request_id=f"{random.getrandbits(64):016x}",
        )
        told = {"request_id": problem.request_id, "status": problem.status, "outcome": problem.code}
        self.logger.warning(reason, extra=told)
        is_broken = self.cycle is not None and self.cycle.more_body
        if is_broken and not (self.pipeline or self.cycle.response_complete):
            scope = cast("dict[str, object]", self.cycle.scope)
            scope[REFUSED_KEY] = problem.request_id  # whose end counts it
            # As when the client has gone: what the application would still write has no place.
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False
            self.cycle.message_event.set()
            self._answer_refused(problem)
            return
        self.count_refused()
        if self.pipeline and is_broken:
            self.pipeline.popleft()
        elif self.cycle is None or self.cycle.response_complete:
            self._answer_refused(problem)

    def _answer_refused(self, problem: ProblemResponse) -> None:
        body = problem.model_dump_json(exclude_none=True).encode()
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            b"content-length: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n"
            % (len(body), problem.request_id.encode())
        )
        self.transport.write(head + body)
        self.linger()

    def linger(self) -> None:
        """Closes for the client, and drops what still comes of it: were that left unread, the
        answer would be lost with it."""
        if self._is_lingering or self.transport.is_closing():
            return
        self._is_lingering = True
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


class _Lingering:
    """The transport of a request after which the connection ends."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def __getattr__(self, name: str) -> object:
        return getattr(self._protocol.transport, name)

    def close(self) -> None:
        """Closes at once where all has come."""
        if self._protocol.cycle.more_body:
            self._protocol.linger()
        else:
            self._protocol.transport.close()
