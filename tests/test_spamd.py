"""The spamd protocol: every command, every version, and no verdict."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import time
import zlib
from contextlib import AbstractContextManager
from urllib.parse import quote

import pytest

from app.spamd import Spamd, SpamdSettings, serve
from tests.fake_server import Got, server

MAIL = b"From: a@example.org\r\nX-Spam-Flag: NO\r\n\tfolded\r\nSubject: x\r\n\r\ntext\r\n"
EIGHT_BIT = MAIL + "Привет".encode("koi8-r")
SPAM = {"action": "add header", "score": 4.94, "required_score": 3.0, "symbols": {"SPAMGATE": {}}}
HAM = {"action": "no action", "score": -4.0, "required_score": 3.0, "symbols": {"SPAMGATE": {}}}


def service(
    answer: dict[str, object], status: int = 200
) -> AbstractContextManager[tuple[str, Got]]:
    """A service that always answers this; its URL, and what it got."""
    return server(json.dumps(answer).encode(), status=status)


def bodies(got: Got) -> list[bytes]:
    return [body for _, _, body in got]


def ask(url: str, request: bytes, *, ends: bool = True, **settings: object) -> bytes:
    """The whole reply to one request, behind which the client may end its side."""

    async def scenario() -> bytes:
        values = {"port": 0, "url": url, "timeout_seconds": 5, **settings}
        server = await Spamd(SpamdSettings(**values)).start()  # type: ignore[arg-type]
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            if ends:
                writer.write_eof()
            reply = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            return reply

    return asyncio.run(scenario())


def command(name: str, version: str = "1.5", message: bytes = MAIL, fields: str = "") -> bytes:
    head = f"{name} SPAMC/{version}\r\n"
    if version != "1.0":
        head += f"Content-length: {len(message)}\r\n{fields}\r\n"
    return head.encode() + message


def test_ping() -> None:
    assert ask("http://127.0.0.1:1", b"PING SPAMC/1.5\r\n\r\n") == b"SPAMD/1.5 0 PONG\r\n"


def test_message_that_is_to_be_skipped_is_not_answered() -> None:
    assert ask("http://127.0.0.1:1", command("SKIP")) == b""


def test_service_is_asked_in_time_with_the_key_below_its_path() -> None:
    with service(SPAM) as (url, got):
        ask(f"{url}/gate/", command("CHECK"), key="secret", timeout_seconds=2.5)
        [(path, headers, _)] = got
    assert path == "/gate/checkv2"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["X-Timeout-Ms"] == "2500"
    assert headers["Content-Type"] == "message/rfc822"


def test_check_tells_spam_from_ham() -> None:
    with service(SPAM) as (url, got):
        reply = ask(url, command("CHECK"))
        assert reply == b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 4.9 / 3.0\r\n\r\n"
        assert bodies(got) == [MAIL]
    with service(HAM) as (url, _):
        assert b"Spam: False ; -4.0 / 3.0\r\n" in ask(url, command("CHECK"))


def test_points_are_below_the_required_ones_where_no_spam_rounds_up_to_them() -> None:
    almost = HAM | {"score": 4.3622, "required_score": 4.4002}
    with service(almost) as (url, _):
        assert b"Spam: False ; 4.3 / 4.4\r\n" in ask(url, command("CHECK"))
        assert b"4.3 of 4.4 points" in ask(url, command("REPORT"))
        assert b"score=4.3 required=4.4" in ask(url, command("PROCESS"))
    with service(almost | SPAM | {"score": 4.4002, "required_score": 4.4002}) as (url, _):
        assert b"Spam: True ; 4.4 / 4.4\r\n" in ask(url, command("CHECK"))


def test_message_without_a_stated_length_ends_with_the_stream() -> None:
    with service(SPAM) as (url, got):
        ask(url, b"CHECK SPAMC/1.2\r\n\r\n" + MAIL)
        assert bodies(got) == [MAIL]


def test_compressed_message_is_inflated() -> None:
    with service(SPAM) as (url, got):
        ask(url, command("CHECK", message=zlib.compress(MAIL), fields="Compress: zlib\r\n"))
        assert bodies(got) == [MAIL]


def test_message_is_cut_at_the_bound() -> None:
    with service(SPAM) as (url, got):
        reply = ask(url, command("CHECK", message=b"x" * 100_000), max_message_bytes=2_000)
        assert reply.startswith(b"SPAMD/1.1 0 EX_OK")
        assert bodies(got) == [b"x" * 2_000]


def test_message_as_long_as_the_bound_is_given_back() -> None:
    message = MAIL + b"x" * (2_000 - len(MAIL))
    for packed, fields in ((message, ""), (zlib.compress(message), "Compress: zlib\r\n")):
        with service(SPAM) as (url, _):
            request = command("PROCESS", message=packed, fields=fields)
            assert ask(url, request, max_message_bytes=2_000).endswith(b"x" * 1_900)


@pytest.mark.parametrize("packed", [False, True])
def test_message_too_long_to_be_given_back_stays_with_the_client(
    packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    message = MAIL + b"x" * 3_000
    fields = ""
    if packed:
        message, fields = zlib.compress(message), "Compress: zlib\r\n"
    with service(SPAM) as (url, got):
        for name, answer in (("PROCESS", b"75"), ("HEADERS", b"0"), ("REPORT", b"0")):
            request = command(name, message=message, fields=fields)
            assert ask(url, request, max_message_bytes=2_000).split()[1] == answer
        assert [len(body) for body in bodies(got)] == [2_000, 2_000]
    assert "no verdict: a message too long" in capsys.readouterr().err


def test_symbols_and_reports() -> None:
    with service(SPAM) as (url, _):
        assert ask(url, command("SYMBOLS")).endswith(b"Spam: True ; 4.9 / 3.0\r\n\r\nSPAMGATE")
        assert ask(url, command("SYMBOLS", "1.2")).endswith(b"\r\n\r\nSPAMGATE\r\n")
        assert b"4.9 of 3.0 points" in ask(url, command("REPORT"))
        assert b"Spam: Yes ;" in ask(url, command("REPORT_IFSPAM"))
    with service(HAM) as (url, _):
        assert ask(url, command("REPORT_IFSPAM")).endswith(b"/ 3.0\r\n\r\n")
        assert ask(url, command("SYMBOLS")).endswith(b"/ 3.0\r\n\r\n")


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.3", "1.5"])
def test_process_returns_the_marked_message(version: str) -> None:
    with service(SPAM) as (url, _):
        reply = ask(url, command("PROCESS", version))
    head, _, message = reply.partition(b"X-Spam-Flag")
    assert (b"X-Spam-Flag" + message).endswith(b"Subject: x\r\n\r\ntext\r\n")
    assert (b"Content-length" in head) == (version != "1.0")
    assert (b"Spam: True" in head) == (version >= "1.3")
    if version != "1.0":
        assert f"Content-length: {len(b'X-Spam-Flag' + message)}\r\n".encode() in head


def test_first_version_has_no_fields() -> None:
    """What looks like some are those of the message."""
    with service(SPAM) as (url, got):
        reply = ask(url, command("PROCESS", "1.0"))
    assert bodies(got) == [MAIL]
    assert b"Subject: x\r\n\r\ntext\r\n" in reply


def test_headers_returns_fields_only() -> None:
    with service(SPAM) as (url, _):
        assert ask(url, command("HEADERS")).endswith(b"Subject: x\r\n\r\n")


def test_no_verdict_is_a_temporary_failure_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("http://127.0.0.1:1", command("CHECK")).startswith(b"SPAMD/1.5 75 ")
    assert "no verdict: ConnectionRefusedError" in capsys.readouterr().err
    with service({"detail": "busy"}, status=503) as (url, _):
        assert ask(url, command("CHECK")).startswith(b"SPAMD/1.5 75 ")
    assert "no verdict: status 503" in capsys.readouterr().err
    with service({"unknown": "reply"}) as (url, _):
        assert ask(url, command("CHECK")).startswith(b"SPAMD/1.5 75 ")
    for values in ({"reply": b"no JSON"}, {"missing": 1}, {"seconds": 1.0}):
        with server(**{"reply": json.dumps(SPAM).encode(), **values}) as (url, _):  # type: ignore[arg-type]
            assert ask(url, command("CHECK"), timeout_seconds=0.5).startswith(b"SPAMD/1.5 75 ")
    told = re.findall("no verdict: (.*)", capsys.readouterr().err)
    assert told[1:] == ["JSONDecodeError", "IncompleteRead", "TimeoutError"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe SPAMC/1.5\r\n\r\n",
        b"CHECK\r\n\r\n",
        b"CHECK SPAMC/x\r\n\r\n",
        b"DELETE SPAMC/1.5\r\n\r\n",
        b"CHECK SPAMC/1.5\r\nContent-length: x\r\n\r\n",
        b"CHECK SPAMC/1.5\r\nCompress: zlib\r\n\r\nnot zlib",
        b"CHECK SPAMC/1.5\r\nCompress: bzip2\r\n\r\n" + MAIL,
        b"PROCESS SPAMC/1.5\r\nCompress: zlib\r\n\r\n" + zlib.compress(MAIL)[:-2],
        b"PROCESS SPAMC/1.5\r\nContent-length: 500\r\n\r\n" + MAIL,
        b"PROCESS SPAMC/1.5\r\nContent-length: -5\r\n\r\n" + MAIL,
        b"PROCESS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % (len(MAIL) - 4) + MAIL,
        b"PROCESS SPAMC/1.5\r\nUser: joe",
    ],
)
def test_what_is_no_request_is_refused(request_bytes: bytes) -> None:
    assert ask("http://127.0.0.1:1", request_bytes).startswith(b"SPAMD/1.0 76 ")


def test_refusal_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    reply = ask("http://127.0.0.1:1", b"DELETE SPAMC/1.5\r\n\r\n")
    assert reply.startswith(b"SPAMD/1.0 76 Bad header line: the command is none of CHECK, ")
    ask("http://127.0.0.1:1", b"")  # whoever looks whether the port is open
    assert capsys.readouterr().err.count("no request: ") == 1


def test_line_behind_the_stated_length_is_left_unread() -> None:
    with service(SPAM) as (url, got):
        assert ask(url, command("CHECK") + b"\r\n").startswith(b"SPAMD/1.1 0 EX_OK")
        assert bodies(got) == [MAIL]


def test_many_fields_are_refused() -> None:
    with service(SPAM) as (url, _):
        for number, start in ((60, b"SPAMD/1.1 0 "), (64, b"SPAMD/1.0 76 ")):
            assert ask(url, command("CHECK", fields="A: b\r\n" * number)).startswith(start)


@pytest.mark.parametrize(
    "request_bytes", [b"CHECK SPAMC/1.5\r\n" + b"A: b\r\n" * 100_000, b"A" * 1_000_000]
)
def test_endless_fields_are_not_read_to_their_end(request_bytes: bytes) -> None:
    try:
        assert ask("http://127.0.0.1:1", request_bytes).startswith(b"SPAMD/1.0 76 ")
    except ConnectionError:
        pass  # closed while the client was still sending


def test_client_that_does_not_read_holds_up_nobody_for_long() -> None:
    async def scenario(url: str) -> tuple[bytes, int]:
        settings = SpamdSettings(port=0, url=url, max_connections=1, read_seconds=1)
        listener = Spamd(settings)
        async with await listener.start() as server, asyncio.timeout(20):
            address = server.sockets[0].getsockname()
            # More than the kernel takes for a reader with so small a window.
            with socket.socket() as silent:
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await asyncio.to_thread(silent.connect, address)
                await asyncio.to_thread(
                    silent.sendall, command("PROCESS", message=b"x" * 6_000_000)
                )
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"PING SPAMC/1.5\r\n\r\n")
                reply = await asyncio.wait_for(reader.read(), 20)
                writer.close()
                while listener._clients:  # until it is left
                    await asyncio.sleep(0.01)
                silent.settimeout(20)
                taken = 0
                with contextlib.suppress(ConnectionResetError):
                    while piece := await asyncio.to_thread(silent.recv, 1 << 20):
                        taken += len(piece)
                return reply, taken

    with service(SPAM) as (url, got):
        reply, taken = asyncio.run(scenario(url))
        assert len(got) == 1
    assert reply == b"SPAMD/1.5 0 PONG\r\n"
    assert taken < 6_000_000  # the rest was not kept for it


def test_client_that_falls_silent_is_left() -> None:
    half = b"CHECK SPAMC/1.5\r\n"
    reply = ask("http://127.0.0.1:1", half, ends=False, read_seconds=0.2)
    assert reply.startswith(b"SPAMD/1.0 79 ")


def test_no_key_goes_in_clear_where_tls_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with service(SPAM) as (url, got):
        reply = ask(url.replace("http:", "https:"), command("CHECK"), key="secret")
        assert (reply.split()[1], got) == (b"75", [])
    assert "no verdict: SSLError" in capsys.readouterr().err


def test_verdict_under_way_is_given_before_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(url: str) -> tuple[bytes, float]:
        serving = asyncio.create_task(serve(SpamdSettings(port=0, url=url, timeout_seconds=5)))
        while "spamd protocol on" not in (told := capsys.readouterr().err):
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(told.rsplit(":", 1)[1]))
        writer.write(command("CHECK"))
        writer.write_eof()
        while not got:
            await asyncio.sleep(0.01)
        begin = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving  # the process would end now
        seconds = time.monotonic() - begin
        reply = await reader.read()
        writer.close()
        return reply, seconds

    with server(json.dumps(SPAM).encode(), seconds=1.0) as (url, got):
        reply, seconds = asyncio.run(scenario(url))
    assert reply.startswith(b"SPAMD/1.1 0 EX_OK\r\nSpam: True")
    assert 0.5 < seconds < 4


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ("Message-class: spam\r\nSet: local\r\n", None),
        ("Message-class: spam\r\nRemove: local\r\n", "secret"),
        ("Message-class: spam\r\nSet: nonlocal\r\n", "secret"),
        ("Set: local\r\n", "secret"),
    ],
)
def test_tell_is_refused_without_a_key_a_class_or_a_place(fields: str, key: str | None) -> None:
    with service(SPAM) as (url, got):
        reply = ask(url, command("TELL", fields=fields), feedback_key=key)
        assert reply.startswith(b"SPAMD/1.0 69 ")
        assert bodies(got) == []


def test_tell_that_the_service_does_not_take_is_a_temporary_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = "Message-class: spam\r\nSet: local\r\n"
    for status in (302, 401, 507):
        with service({}, status=status) as (url, _):
            reply = ask(url, command("TELL", fields=fields), feedback_key="secret")
            # Of one with a blank line spamc says "Message was already un/learned".
            assert reply == b"SPAMD/1.0 75 EX_TEMPFAIL\r\n"
    assert re.findall("label not kept: (.*)", capsys.readouterr().err)[1] == "status 401"


def test_tell_is_passed_on_as_feedback() -> None:
    fields = "User: joe\r\nMessage-class: SPAM\r\nSet: remote, Local\r\n"
    with service({}) as (url, got):
        reply = ask(url, command("TELL", fields=fields, message=EIGHT_BIT), feedback_key="secret")
        assert reply.startswith(b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n")
        [(path, headers, body)] = got
    assert path == "/feedback?label=spam&source=spamd%3Ajoe"
    assert headers["Content-Type"] == "message/rfc822"
    assert body == EIGHT_BIT  # in JSON it would be up to six times as long


def test_name_of_a_user_is_passed_on_as_it_came() -> None:
    fields = "User: jürgen\r\nMessage-class: ham\r\nSet: local\r\n"
    with service({}) as (url, got):
        ask(url, command("TELL", fields=fields), feedback_key="secret")
        [(path, _, _)] = got
    assert path == f"/feedback?label=ham&source=spamd%3A{quote('jürgen')}"


def test_keys_are_sent_as_the_service_reads_them() -> None:
    with service(SPAM) as (url, got):
        assert b"EX_OK" in ask(url, command("CHECK"), key="schlüssel")
        assert b"EX_OK" in ask(url, command("CHECK"), key=os.fsdecode(b"schl\xfcssel"))
    told = [fields["Authorization"].encode("latin-1") for _, fields, _ in got]
    assert told == ["Bearer schlüssel".encode(), b"Bearer schl\xfcssel"]
