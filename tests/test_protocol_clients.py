"""Clients that ask more of a connection than they are to have, or leave it."""

import asyncio
import socket
import struct

import pytest

from tests.test_protocol import TOO_LONG, converse, echo, problem_in, refuse, say

CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_that_goes_on_behind_the_answer_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(HEAD)
        answer = await reader.readuntil(b"0\r\n\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012
            while True:
                writer.write(CHUNK)
                await writer.drain()
        return answer

    monkeypatch.setattr("app.protocol._LINGER_SECONDS", 0.05)
    assert converse(client, app=refuse).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("num_chunks", [1, 15])
def test_the_rest_of_a_refused_mail_does_not_end_the_connection(num_chunks: int) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for _ in range(3):
            writer.write(HEAD)
            answer = await reader.readuntil(b"0\r\n\r\n")
            writer.write(CHUNK * num_chunks + b"0\r\n\r\n")
            await writer.drain()
        return answer

    assert converse(client, app=refuse).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("num_requests", [1, 2, 3])
def test_a_request_is_given_up_with_those_behind_it(
    num_requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []
    read, gone = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send) -> None:
        started.append(scope["path"])
        if scope["path"] == "/first":
            await receive()
            read.set()
            assert (await receive())["type"] == "http.disconnect"
            gone.set()
        await echo(scope, receive, send)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        rest = b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi" * (num_requests - 1)
        writer.write(b"POST /first HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi" + rest)
        await read.wait()
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
        await asyncio.wait_for(gone.wait(), 5)
        return b""

    converse(client, app=app)
    assert started == ["/first"]
    assert caplog.records == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * TOO_LONG + b"\r\n\r\n",
        b"GET /" + b"x" * TOO_LONG + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: yz\r\n" * (TOO_LONG // 7 + 1) + b"\r\n",
        HEAD + b"2\r\nhi\r\n0\r\nX: " + b"x" * TOO_LONG + b"\r\n\r\n",
    ],
    ids=["field", "path", "many fields", "trailer"],
)
@pytest.mark.parametrize("before", [b"", b"GET /a HTTP/1.1\r\n\r\n"])
def test_a_head_that_comes_at_once_has_its_bound(request_bytes: bytes, before: bytes) -> None:
    answer = converse(say(before + request_bytes))
    *answers, last = answer.split(b"HTTP/1.1 ")[1:]
    assert [reply.partition(b"\r\n\r\n")[2] for reply in answers] == [b"GET /a "] * bool(before)
    assert problem_in(last) == "The head of the HTTP request is too long."


def test_a_head_up_to_the_bound_is_read() -> None:
    field = b"X: " + b"x" * (TOO_LONG - 100)
    answer = converse(say(b"GET / HTTP/1.1\r\nConnection: close\r\n" + field + b"\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_request_that_is_wrong_twice_has_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    encoded = b"Transfer-Encoding: gzip, chunked\r\n\r\n"
    for head in (b"POST / HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n"):
        assert converse(say(head + encoded + b"no chunk\r\n")).startswith(b"HTTP/1.1 400 ")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def recipients(number: int, connection: bytes = b"close") -> bytes:
    """A request of Haraka's for a mail to so many."""
    fields = b"".join(b"Rcpt: %0.240d@example.org\r\n" % n for n in range(number))
    end = b"Content-Length: 2\r\nConnection: %b\r\n\r\nok" % connection
    return b"POST /checkv2 HTTP/1.1\r\n" + fields + end


def test_recipients_that_nobody_reads_have_a_bound_of_their_own() -> None:
    whole = recipients(2_000)
    pieces = [whole[start : start + 50_000] for start in range(0, len(whole), 50_000)]
    for said in (whole,), pieces:
        answer = converse(say(*said))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"POST /checkv2 ok")
    again = converse(say(recipients(20_000, b"keep-alive"), recipients(20_000)))
    assert again.count(b"HTTP/1.1 200 ") == 2
    assert problem_in(converse(say(recipients(35_000)))).startswith("The head of the HTTP request")
