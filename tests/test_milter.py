"""The milter of examples/postfix, spoken to as an MTA speaks to it."""

import contextlib
import json
import socket
import struct
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import free_port
from tests.fake_server import Got, server
from tests.mail_programs import process, stuck_service

MILTER = Path(__file__).parents[1] / "examples" / "postfix" / "milter.py"
FIELDS = {"From": "a@example.org", "Subject": " x\n\tfolded"}


def service(
    decision: str, missing: int = 0, spam: object = 0.987
) -> AbstractContextManager[tuple[str, Got]]:
    """A service that always decides so, and leaves its answer short by so much."""
    result = {"decision": decision, "probabilities": {"spam": spam}}
    return server(json.dumps({"results": [result]}).encode(), missing=missing)


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def read_packet(connection: socket.socket) -> tuple[bytes, bytes]:
    stream = connection.recv(4, socket.MSG_WAITALL)
    content = connection.recv(struct.unpack("!I", stream)[0], socket.MSG_WAITALL)
    return content[:1], content[1:]


def talk(
    url: str,
    folder: Path,
    *options: str,
    messages: int = 1,
    more: tuple[tuple[str, str], ...] = (),
) -> list[list[bytes]]:
    """What the milter answers to each message of one session."""
    port = free_port()
    command = [sys.executable, MILTER, "--port", port]
    command += ["--spamgate", url, *options]
    answers = []
    with (
        process(command, folder / "milter.log", port=port),
        socket.create_connection(("127.0.0.1", port), timeout=30) as connection,
    ):
        connection.sendall(packet(b"O", struct.pack("!III", 6, 0x1FF, 0x1FFFFF)))
        negotiated, data = read_packet(connection)
        assert negotiated == b"O"
        assert struct.unpack("!III", data)[:2] == (6, 0x11)  # may add and change fields
        for _ in range(messages):
            for name, value in (*FIELDS.items(), *more):
                connection.sendall(packet(b"D", b"Lmacro\0") + packet(b"L", _field(name, value)))
            connection.sendall(packet(b"N") + packet(b"B", b"first ") + packet(b"B", b"second"))
            connection.sendall(packet(b"E"))
            answer: list[bytes] = []
            while not answer or answer[-1][:1] not in (b"a", b"y"):
                answer.append(b"".join(read_packet(connection)))
            answers.append(answer)
        connection.sendall(packet(b"Q"))
        assert connection.recv(1) == b""
    return answers


def _field(name: str, value: str) -> bytes:
    return f"{name}\0{value}\0".encode()


@pytest.mark.parametrize("decision", ["ham", "unsure", "spam"])
def test_mail_is_marked(tmp_path: Path, decision: str) -> None:
    with service(decision) as (url, got):
        answers = talk(url, tmp_path, messages=2)
    assert answers == [[f"hX-Spamgate\0{decision} 0.9870\0".encode(), b"a"]] * 2
    expected = b"From: a@example.org\r\nSubject:  x\r\n\tfolded\r\n\r\nfirst second"
    assert [body for _, _, body in got] == [expected] * 2


@pytest.mark.parametrize("key", [None, "secret", "grüß-ключ\r"])
def test_access_key_comes_from_the_environment(
    tmp_path: Path, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPAMGATE_KEY", raising=False)
    if key:
        monkeypatch.setenv("SPAMGATE_KEY", key)
    with service("ham") as (url, got):
        talk(url, tmp_path)
    sent = key and key.strip().encode().decode("latin-1")  # as the server's library reads UTF-8
    assert [headers.get("X-Api-Key") for _, headers, _ in got] == [sent]


def test_no_proxy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with service("ham") as (url, got):
        assert talk(url, tmp_path) == [[b"hX-Spamgate\0ham 0.9870\0", b"a"]]
    assert len(got) == 1


def test_marks_that_a_message_brings_along_are_taken_out(tmp_path: Path) -> None:
    more = (("x-spamgate", "ham 0.0001"), ("X-Other", "X-Spamgate: ham"), ("X-Spamgate", "ham"))
    removed = [struct.pack("!cI", b"m", n) + b"X-Spamgate\0\0" for n in (2, 1)]
    with service("spam") as (url, _):
        [answer] = talk(url, tmp_path, more=more)
    assert answer == [*removed, b"hX-Spamgate\0spam 0.9870\0", b"a"]
    assert talk(f"http://127.0.0.1:{free_port()}", tmp_path, more=more) == [[*removed, b"a"]]


def test_spam_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    with service("spam") as (url, _):
        [[answer]] = talk(url, tmp_path, "--reject")
    assert answer.startswith(b"y550 5.7.1 ")


@pytest.mark.parametrize("wrong", [{"missing": 5}, {"spam": None}, {"spam": "much"}])
def test_mail_passes_without_a_whole_answer(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with service("spam", **wrong) as (url, _):
        assert talk(url, tmp_path, "--reject") == [[b"a"]]


def negotiated(port: int) -> socket.socket:
    """A session that has told its first field."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(packet(b"O", struct.pack("!III", 6, 0x1FF, 0x1FFFFF)))
    assert read_packet(connection)[0] == b"O"
    connection.sendall(packet(b"L", _field("Subject", "x")))
    return connection


def test_mail_passes_in_time_however_many_wait(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "milter.log"
    with stuck_service() as stuck, contextlib.ExitStack() as stack:
        command = [
            sys.executable,
            MILTER,
            "--port",
            port,
            "--spamgate",
            f"http://127.0.0.1:{stuck}",
        ]
        stack.enter_context(process(command, log, port=port))
        # More than the threads that Python takes for such waits.
        connections = [stack.enter_context(negotiated(port)) for _ in range(64)]
        begin = time.monotonic()
        for connection in connections:
            connection.sendall(packet(b"E"))
        assert [read_packet(connection) for connection in connections] == [(b"a", b"")] * 64
        assert time.monotonic() - begin < 7.5


def test_no_more_of_a_long_mail_is_held_than_the_service_reads(tmp_path: Path) -> None:
    port, piece = free_port(), packet(b"B", b"x" * 65_535)
    with service("ham") as (url, got), contextlib.ExitStack() as stack:
        command = [sys.executable, MILTER, "--port", port, "--spamgate", url]
        stack.enter_context(process(command, tmp_path / "milter.log", port=port))
        connection = stack.enter_context(negotiated(port))
        for _ in range(200):
            connection.sendall(piece)
        connection.sendall(packet(b"E"))
        assert read_packet(connection)[0] == b"h"
    assert len(got[0][2]) == len(b"Subject: x\r\n\r\n") + (8 << 20)


def test_many_fields_hold_up_no_other_mail(tmp_path: Path) -> None:
    port, field = free_port(), packet(b"L", _field("a", "b"))
    with service("ham") as (url, got), contextlib.ExitStack() as stack:
        command = [sys.executable, MILTER, "--port", port, "--spamgate", url]
        stack.enter_context(process(command, tmp_path / "milter.log", port=port))
        many = stack.enter_context(negotiated(port))
        begin = time.monotonic()
        many.sendall(300_000 * field)
        for _ in range(200):
            many.sendall(packet(b"L", _field("long", "x" * 65_000)))
        many.sendall(packet(b"E"))
        other = stack.enter_context(negotiated(port))
        other.sendall(packet(b"E"))
        assert [read_packet(connection)[0] for connection in (other, many)] == [b"h"] * 2
        assert time.monotonic() - begin < 20  # it took minutes, fields being copied for each
    assert max(len(body) for _, _, body in got) == (8 << 20) + len(b"\r\n")


def test_client_that_goes_leaves_no_traceback(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "milter.log"
    with service("ham") as (url, _):
        command = [sys.executable, MILTER, "--port", port, "--spamgate", url]
        with process(command, log, port=port):
            for rest in (b"", b"\0\0", b"\0\0\0\x09Bhalf"):
                with negotiated(port) as connection:
                    connection.sendall(rest)
                    connection.shutdown(socket.SHUT_WR)
                    assert connection.recv(1) == b""
    assert log.read_text() == ""


def test_mail_passes_without_a_verdict(tmp_path: Path) -> None:
    assert talk(f"http://127.0.0.1:{free_port()}", tmp_path, "--reject") == [[b"a"]]


def test_mail_with_more_forged_marks_than_can_be_taken_out_is_refused(tmp_path: Path) -> None:
    with service("ham") as (url, _):
        [few] = talk(url, tmp_path, more=(("X-Spamgate", "ham"),) * 50)
        [[answer]] = talk(url, tmp_path, more=(("X-Spamgate", "ham"),) * 51)
    assert len(few) == 52
    assert answer.startswith(b"y550 5.7.1 Too many fields X-Spamgate")
