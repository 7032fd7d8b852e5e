"""Many clients of the spamd protocol at once."""

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.spamd import Spamd, SpamdSettings
from tests.fake_server import server
from tests.test_spamd import HAM, command

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[bytes], Awaitable[Connection]]

BUSY = b"SPAMD/1.0 75 EX_TEMPFAIL\r\n"
PONG = b"SPAMD/1.5 0 PONG\r\n"
PING = b"PING SPAMC/1.5\r\n\r\n"


def crowd(scenario: Callable[[Connect], Awaitable[None]], **settings: object) -> None:
    """Runs the scenario with what connects to a listener that asks for one client at a time, in
    front of a service that says ham."""

    async def run(url: str) -> None:
        connections: list[Connection] = []

        async def connect(request: bytes) -> Connection:
            connections.append(await asyncio.open_connection(*address))
            connections[-1][1].write(request)
            return connections[-1]

        values = {"port": 0, "url": url, "max_connections": 1, "timeout_seconds": 5, **settings}
        listener = Spamd(SpamdSettings(**values))  # type: ignore[arg-type]
        async with await listener.start() as open_server, asyncio.timeout(20):
            address = open_server.sockets[0].getsockname()
            await scenario(connect)
            for _, writer in connections:
                writer.close()
            await listener.finish()

    with server(json.dumps(HAM).encode()) as (url, _):
        asyncio.run(run(url))


async def reply_to(connect: Connect, request: bytes) -> bytes:
    reader, _ = await connect(request)
    return await reader.read()


async def told_busy(connect: Connect, request: bytes) -> bool:
    """Whether it is refused; a reset for bytes left unread may overtake that answer."""
    try:
        return await reply_to(connect, request) == BUSY
    except ConnectionResetError:
        return True


def test_clients_that_send_nothing_keep_nobody_from_a_verdict() -> None:
    async def scenario(connect: Connect) -> None:
        for request in (b"", b"CHECK SPAMC/1.5\r\n", command("CHECK")[:-1]):
            await connect(request)
        assert await reply_to(connect, PING) == PONG
        assert b"Spam: False" in await reply_to(connect, command("CHECK"))

    crowd(scenario)


def test_clients_beyond_a_bound_are_told_to_come_again(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(connect: Connect) -> None:
        silent = [await connect(b"") for _ in range(16)]
        assert await reply_to(connect, b"") == BUSY
        silent[0][1].write(PING)
        assert await silent[0][0].read() == PONG
        assert await reply_to(connect, PING) == PONG

    crowd(scenario)
    assert "no verdict: too many clients at once" in capsys.readouterr().err


def test_large_messages_that_do_not_end_keep_out_large_ones_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    large = command("CHECK", message=b"x" * 300_000)

    async def scenario(connect: Connect) -> None:
        # Each holds what counts of its message; those that end are let go.
        unended = [await connect(large[:-1]) for _ in range(3)]
        busy, _ = await asyncio.wait(
            [asyncio.create_task(reader.read()) for reader, _ in unended],
            return_when=asyncio.FIRST_COMPLETED,
        )
        [refused] = busy  # whose bytes are left unread, so that a reset may overtake the answer
        if not isinstance(refused.exception(), ConnectionResetError):
            assert refused.result() == BUSY
        assert b"Spam: False" in await reply_to(connect, command("CHECK"))
        for _, writer in unended:
            writer.write(b"x")
        while await told_busy(connect, large):
            await asyncio.sleep(0.01)

    crowd(scenario, max_message_bytes=300_000)
    assert "no verdict: too many large messages at once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("max_files", "clients", "told"),
    [(400, 500, "no verdict: too many clients at once"), (60, 100, "no connection is taken: ")],
    ids=["few files", "too few files"],
)
def test_more_clients_than_files_are_told_of_in_a_line(
    max_files: int, clients: int, told: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.spamd", "--port", "0", "--timeout-seconds", "0.1"],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files)),
    )
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().rsplit(":", 1)[1])
        with contextlib.ExitStack() as connections:
            for _ in range(clients):
                connections.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            first_line = process.stderr.readline()
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(PING)
            assert client.recv(100) in (PONG, BUSY)
        process.terminate()
        rest = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    lines = (first_line + rest).splitlines()
    assert any(told in line for line in lines)
    assert len(lines) <= 2
