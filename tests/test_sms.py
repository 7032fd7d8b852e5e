"""The shim of examples/sms between Kannel and the receiver: no message gets lost."""

import json
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from benchmarks.server import free_port
from tests.conftest import HAM, SPAM
from tests.fake_server import server
from tests.mail_programs import process

SHIM = Path(__file__).parents[1] / "examples" / "sms" / "shim.py"
KANNEL = {
    "Content-Type": 'text/plain; charset="UTF-8"',
    "X-Kannel-From": "+4915100000",
    "X-Kannel-Coding": "0",
}
SPAM_REPLY = b'{"results": [{"probabilities": {"spam": 0.99}}]}'
HAM_REPLY = b'{"results": [{"probabilities": {"spam": 0.01}}]}'


def send(
    folder: Path,
    spamgate: str,
    target: str,
    message: bytes | Iterator[bytes],
    headers: dict[str, str] = KANNEL,
) -> int:
    """The status that Kannel gets."""
    port = free_port()
    command = [sys.executable, SHIM, "--port", port, "--spamgate", spamgate, "--target", target]
    with process(command, folder / "shim.log", port=port):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/?from=1&to=2", message, headers)
        status = connection.getresponse().status
        connection.close()
    return status


def test_spam_is_held_back_and_all_else_handed_on(tmp_path: Path) -> None:
    with server() as (target, handed_on):
        with server(SPAM_REPLY) as (spamgate, _):
            assert send(tmp_path, spamgate, target, SPAM.encode()) == 200
        assert handed_on == []
        with server(HAM_REPLY) as (spamgate, _):
            assert send(tmp_path, spamgate, target, HAM.encode()) == 200
    [(path, headers, body)] = handed_on
    assert (path, body) == ("/?from=1&to=2", HAM.encode())
    assert headers.items() >= KANNEL.items()


@pytest.mark.parametrize(
    ("reply", "missing"),
    [
        (SPAM_REPLY, 10),
        (b'{"results": []}', 0),
        (b"[]", 0),
        (b'{"results": [{"probabilities": {"spam": "much"}}]}', 0),
        (b"no JSON", 0),
    ],
)
def test_message_is_handed_on_without_a_verdict(tmp_path: Path, reply: bytes, missing: int) -> None:
    with server() as (target, handed_on), server(reply, missing=missing) as (spamgate, _):
        assert send(tmp_path, spamgate, target, SPAM.encode()) == 200
    assert [body for _, _, body in handed_on] == [SPAM.encode()]


@pytest.mark.parametrize("key", [None, "secret", "grüß-ключ\r"])
def test_access_key_comes_from_the_environment(
    tmp_path: Path, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPAMGATE_KEY", raising=False)
    if key:
        monkeypatch.setenv("SPAMGATE_KEY", key)
    with server() as (target, handed_on), server(HAM_REPLY) as (spamgate, asked):
        send(tmp_path, spamgate, target, HAM.encode())
    sent = key and key.strip().encode().decode("latin-1")  # as the server's library reads UTF-8
    assert [headers.get("X-Api-Key") for _, headers, _ in asked] == [sent]
    assert "X-Api-Key" not in handed_on[0][1]


def test_no_proxy_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with server() as (target, handed_on), server(HAM_REPLY) as (spamgate, asked):
        assert send(tmp_path, spamgate, target, HAM.encode()) == 200
    assert len(asked) == len(handed_on) == 1


def test_a_message_is_not_lost_where_the_target_has_moved(tmp_path: Path) -> None:
    with server(HAM_REPLY) as (spamgate, _), server(status=301) as (target, got):
        assert send(tmp_path, spamgate, target, HAM.encode()) == 502
    assert [path for path, _, _ in got] == ["/?from=1&to=2"]
    with server(HAM_REPLY) as (spamgate, _), server(status=303) as (target, _):
        assert send(tmp_path, spamgate, target, HAM.encode()) == 200  # it was taken


def test_an_address_of_the_target_may_have_a_query(tmp_path: Path) -> None:
    with server(HAM_REPLY) as (spamgate, _), server() as (target, got):
        assert send(tmp_path, spamgate, f"{target}/sms?token=abc", HAM.encode()) == 200
    assert [path for path, _, _ in got] == ["/sms?token=abc&from=1&to=2"]


def test_kannel_learns_that_the_target_did_not_take_a_message(tmp_path: Path) -> None:
    with server(HAM_REPLY) as (spamgate, _):
        with server(status=500) as (target, _):
            assert send(tmp_path, spamgate, target, HAM.encode()) == 502
        assert send(tmp_path, spamgate, f"http://127.0.0.1:{free_port()}", HAM.encode()) == 502


@pytest.mark.parametrize("charset", ["UTF-16BE", "no-such"])
def test_message_is_read_in_its_charset(tmp_path: Path, charset: str) -> None:
    message = "Schöne Grüße, 你好".encode("utf-16-be")
    headers = KANNEL | {"Content-Type": f'text/plain; charset="{charset}"', "X-Kannel-Coding": "2"}
    with server() as (target, handed_on), server(HAM_REPLY) as (spamgate, asked):
        assert send(tmp_path, spamgate, target, message, headers) == 200
    texts = [json.loads(body)["texts"] for _, _, body in asked]
    assert texts == ([["Schöne Grüße, 你好"]] if charset == "UTF-16BE" else [])
    [(_, kept, body)] = handed_on
    assert body == message
    assert kept["Content-Type"] == headers["Content-Type"]


def test_message_without_a_length_is_refused(tmp_path: Path) -> None:
    with server() as (target, handed_on), server(HAM_REPLY) as (spamgate, _):
        in_pieces = KANNEL | {"Transfer-Encoding": "chunked"}
        assert send(tmp_path, spamgate, target, iter([HAM.encode()]), in_pieces) == 411
        assert send(tmp_path, spamgate, target, b"", KANNEL | {"Content-Length": "abc"}) == 411
    assert handed_on == []
