"""One connection, byte by byte: what it may cost, and what uvicorn alone would lose."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.protocol import BoundedProtocol

TOO_LONG = (64 << 10) + 1


async def echo(scope, receive, send) -> None:
    """Replies with the method, the path and the body."""
    assert scope["type"] == "http"
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    reply = f"{scope['method']} {scope['path']} ".encode() + body
    headers = [(b"content-length", str(len(reply)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


def converse(
    client: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]],
    *,
    wait_seconds: float = 60,
    app=echo,
) -> bytes:
    """What the client returns of a connection to the app under the protocol."""

    async def scenario() -> bytes:
        config = uvicorn.Config(app, log_config=None)
        config.timeout_keep_alive = wait_seconds  # type: ignore[assignment]
        config.load()
        state = ServerState()
        state.default_headers = [(b"connection", b"keep-alive")]
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0
        )
        async with server, asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            answer = await client(reader, writer)
            for transport in (writer.transport, *(each.transport for each in state.connections)):
                transport.abort()
            await asyncio.sleep(0)  # in which they end
            return answer

    return asyncio.run(scenario())


def say(*pieces: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]:
    """A client that sends pieces, each once the one before has been read, and reads to the end."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            for _ in range(10):
                await asyncio.sleep(0)
        return await reader.read()

    return client


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nX: ", b"x" * TOO_LONG],
        [b"GET /", b"x" * TOO_LONG],
        [b"GET / HTTP/1.1\r\n", b"x: yz\r\n" * (TOO_LONG // 7 + 1)],
        [b"GET / HTTP/1.1\r\n", b"x:\r\n" * 1002],
        [
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
            b"x" * TOO_LONG,
        ],
    ],
    ids=["field", "path", "many fields", "short fields", "trailer"],
)
def test_what_is_no_body_has_a_bound(pieces: list[bytes]) -> None:
    answer = converse(say(*pieces))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert problem_in(answer) == "The head of the HTTP request is too long."


def problem_in(answer: bytes) -> str:
    """What the reply to a request that is no HTTP says."""
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = head.lower().split(b"\r\n")
    assert [field for field in fields if field.startswith(b"connection:")] == [b"connection: close"]
    assert b"content-type: application/problem+json" in fields
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "invalid_http")
    assert b"x-request-id: " + problem["request_id"].encode() in fields
    return str(problem["detail"])


@pytest.mark.parametrize(
    "broken",
    [
        b"\0",
        b"GET /b HTTP/1.1\r\nHo st: x\r\n\r\n",
        b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
    ids=["no request", "a field that is none", "no chunk"],
)
@pytest.mark.parametrize("num_whole", [1, 2])
def test_what_was_whole_is_answered_before_what_is_broken(broken: bytes, num_whole: int) -> None:
    async def slow(scope, receive, send) -> None:
        await asyncio.sleep(0.1)
        await echo(scope, receive, send)

    whole = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi" * num_whole
    answer = converse(say(whole + broken, b"GET /c HTTP/1.1\r\n\r\n"), app=slow)
    *answers, last = answer.split(b"HTTP/1.1 ")[1:]
    assert [reply.partition(b"\r\n\r\n")[2] for reply in answers] == [b"POST /a hi"] * num_whole
    assert problem_in(last) == "Invalid HTTP request received."


def test_a_body_that_is_encoded_in_transfer_is_refused() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    answer = converse(say(head + b"2\r\nhi\r\n0\r\n\r\n"))
    assert problem_in(answer) == "Of transfer encodings only chunked is read."


@pytest.mark.parametrize("too_many", [False, True])
def test_so_many_requests_may_wait_on_one_connection(too_many: bool) -> None:
    async def slow(scope, receive, send) -> None:
        if scope["path"] == "/first":
            await asyncio.sleep(0.1)
        await echo(scope, receive, send)

    following = b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi" * (300 if too_many else 99)
    last = b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n"
    answer = converse(say(b"GET /first HTTP/1.1\r\n\r\n" + following + last), app=slow)
    *answers, final = answer.split(b"HTTP/1.1 ")[1:]
    bodies = [reply.partition(b"\r\n\r\n")[2] for reply in answers]
    if too_many:
        assert bodies == [b"GET /first ", *[b"POST /b hi"] * 100]
        assert problem_in(final).startswith("Too many requests at once on one connection")
    else:
        assert bodies == [b"GET /first ", *[b"POST /b hi"] * 99]
        assert final.endswith(b"GET /c ")


async def refuse(scope, receive, send) -> None:
    """Answers without a look at the body."""
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


@pytest.mark.parametrize("app", [echo, refuse])
@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
def test_a_request_with_a_broken_body_has_one_answer(
    app: Callable[..., Awaitable[None]], expects: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST / HTTP/1.1\r\n" + expects + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = converse(say(head + b"no chunk\r\n"), app=app)
    assert problem_in(answer) == "Invalid HTTP request received."
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_follows_a_broken_body_does_not_cost_the_answer() -> None:
    """Of a body so large no more is read until somebody asks for it."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\nno chunk\r\n" % (TOO_LONG, b"x" * TOO_LONG))
        for _ in range(20):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
        return await reader.read()

    assert problem_in(converse(client)) == "Invalid HTTP request received."


def test_an_answer_before_the_end_of_a_body_arrives() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        size = 20 << 20  # more than the kernel takes
        writer.write(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(20):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
        return await reader.read()

    answer = converse(client, app=refuse)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b"no\r\n0\r\n\r\n") or answer.endswith(b"no")


def test_what_follows_the_last_answer_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 9\r\n\r\nfour")
        answer = await reader.read()
        for piece in (b"more!", b"x" * TOO_LONG):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        return answer

    assert converse(client, app=refuse).count(b"HTTP/1.1 ") == 1
    assert caplog.records == []


def test_nothing_is_begun_behind_the_last_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The parser goes on where a client of HTTP/1.0 asks to; the connection does not."""
    head = b"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /second HTTP/1.1\r\n\r\n"
    answer = converse(say(head + b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n123"))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert caplog.records == []


def test_trailers_are_no_fields_of_the_head() -> None:
    async def list_fields(scope, receive, send) -> None:
        while (await receive())["more_body"]:
            pass
        names = b" ".join(name for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": names + b"."})

    head = b"POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = converse(say(head, b"1\r\nx\r\n0\r\nX-API-Key: k\r\n\r\n"), app=list_fields)
    assert b"transfer-encoding." in answer
    assert b"x-api-key" not in answer


def test_a_client_that_goes_on_after_the_last_answer_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n")
        answer = await reader.read()
        with pytest.raises(ConnectionError):
            await go_on(writer)
        return answer

    async def go_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr("app.protocol._LINGER_SECONDS", 0.05)
    assert converse(client, app=refuse).startswith(b"HTTP/1.1 401 ")


def test_a_body_has_no_bound_here() -> None:
    head = b"POST /a HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (6 * TOO_LONG)
    answer = converse(say(head, *[b"x" * TOO_LONG] * 6))
    assert answer.endswith(b"\r\n\r\nPOST /a " + b"x" * 6 * TOO_LONG)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"\r\n"],
        [b"POST / HT"],
        [b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"four"],
    ],
    ids=["nothing", "a blank line", "half a head", "no body", "half a body"],
)
def test_a_client_that_falls_silent_is_left(pieces: list[bytes]) -> None:
    assert converse(say(*pieces), wait_seconds=0.2) == b""


def test_an_answer_may_take_longer_than_a_client_may_be_silent() -> None:
    async def slow(scope, receive, send) -> None:
        await asyncio.sleep(0.3)
        await echo(scope, receive, send)

    request = b"POST /a HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    assert converse(say(request), wait_seconds=0.2, app=slow).endswith(b"\r\n\r\nPOST /a hi")


async def reply_large(scope, receive, send) -> None:
    """More than the kernel takes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * (16 << 20)})


async def reply_until_full(scope, receive, send) -> None:
    """All that the kernel takes, and up to a kilobyte more."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not send.__self__.transport.get_write_buffer_size():
        await send({"type": "http.response.body", "body": b"x" * 1024, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


REPLY_END = b"x\r\n0\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("request_head", [LAST_GET, b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("app", [reply_large, reply_until_full])
def test_a_client_that_stops_reading_is_left(
    app: Callable[..., Awaitable[None]], request_head: bytes
) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request_head)
        await asyncio.sleep(1)
        return await reader.read()

    answer = converse(client, wait_seconds=0.2, app=app)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(REPLY_END)


def test_a_client_that_reads_slowly_gets_all() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(LAST_GET)
        answer = bytearray()
        while piece := await reader.read(1 << 16):
            answer += piece
            await asyncio.sleep(0.005)
        return bytes(answer)

    assert converse(client, wait_seconds=0.3, app=reply_large).endswith(REPLY_END)


def test_a_client_that_has_paused_once_is_not_held_to_it() -> None:
    async def app(scope, receive, send) -> None:
        if scope["path"] == "/large":
            await reply_large(scope, receive, send)
        else:
            await asyncio.sleep(1)
            await echo(scope, receive, send)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /large HTTP/1.1\r\n\r\n")
        answer = bytearray()
        while not answer.endswith(REPLY_END):
            answer += await reader.read(1 << 20)
        writer.write(LAST_GET)
        return await reader.read()

    assert converse(client, wait_seconds=0.3, app=app).endswith(b"\r\n\r\nGET / ")


@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"Content-Length: 2", b"hi"), (b"Transfer-Encoding: chunked", b"2\r\nhi\r\n0\r\n\r\n")],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_request_that_offers_another_protocol_keeps_its_body(
    framing: bytes, body: bytes, apart: bool
) -> None:
    # As Java's HttpClient asks for HTTP/2 in every first request.
    head = (
        b"POST /a HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n" + framing + b"\r\n\r\n"
    )
    after = b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n"
    pieces = [head, body, after] if apart else [head + body + after]
    answer = converse(say(*pieces))
    assert b"\r\n\r\nPOST /a hiHTTP/1.1 200 OK\r\n" in answer
    assert answer.endswith(b"\r\n\r\nGET /b ")


def test_a_tunnel_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer = converse(say(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    [logged] = [vars(record) for record in caplog.records]
    assert problem_in(answer) == logged["message"]
    assert logged["request_id"].encode() in answer
    assert (logged["status"], logged["outcome"]) == (400, "invalid_http")


@pytest.mark.parametrize(
    "request_head",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"],
)
def test_a_connection_that_ends_does_not_claim_to_stay(request_head: bytes) -> None:
    assert connection_fields(converse(say(request_head))) == [b"connection: close"]


def connection_fields(answer: bytes) -> list[bytes]:
    """What a reply says of its connection."""
    head = answer.partition(b"\r\n\r\n")[0].lower()
    return [line for line in head.split(b"\r\n") if line.startswith(b"connection:")]


def test_a_connection_that_ends_amid_a_request_does_not_claim_to_stay() -> None:
    async def end_then_echo(scope, receive, send) -> None:
        send.__self__.on_response.__self__.shutdown()  # the protocol's, as the server ends
        await echo(scope, receive, send)

    answer = converse(say(b"GET / HTTP/1.1\r\n\r\n"), app=end_then_echo)
    assert answer.endswith(b"\r\n\r\nGET / ")
    assert connection_fields(answer) == [b"connection: close"]
