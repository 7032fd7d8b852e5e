"""The real process: python -m app, over a socket, its exit codes and its last words."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import httpx
import pytest
import uvicorn

from app.__main__ import main
from app.server import Server
from tests.conftest import HAM, SPAM
from tests.serving import make_settings

ROOT = Path(__file__).parents[1]
DEADLINE_SECONDS = 60


def start(*flags: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPAMGATE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "app", "--device", "cpu", "--dtype", "float32", *flags],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def served(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A healthy service on a free port, and its address."""
    process = start("--checkpoint", str(folder), "--port", "0", *flags)
    try:
        address = read_address(process)
        wait_healthy(address)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def read_address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if "running on http" in line:
            return "http" + line.split("running on http")[1].split()[0]
    raise AssertionError(f"the service ended with code {process.wait()}")


def wait_healthy(address: str) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            time.sleep(0.02)  # loading; there is no event to wait for across processes
        except TimeoutError:  # a worker's port is open before the worker is
            continue
        else:
            return
    raise AssertionError("the service did not become healthy")


def test_a_started_service_answers_and_ends_at_sigterm(save_tiny: Callable[..., Path]) -> None:
    with served(save_tiny()) as (process, address):
        reply = httpx.post(f"{address}/classify", json={"texts": [SPAM, HAM]})
        assert reply.status_code == 200
        assert len(reply.json()["results"]) == 2
        assert reply.headers["connection"] == "keep-alive"
        assert "server" not in reply.headers
        # Of which uvicorn by itself drops the body.
        aside = {"connection": "upgrade", "upgrade": "h2c"}
        reply = httpx.post(f"{address}/classify", json={"texts": [SPAM]}, headers=aside)
        assert reply.status_code == 200
        process.send_signal(signal.SIGHUP)  # loads the same folder anew
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_at_sigterm_a_checkpoint_that_is_being_loaded_is_not_waited_for() -> None:
    code = (
        "import sys, threading; from app import service; from app.__main__ import main\n"
        "service.load_model = lambda *arguments: threading.Event().wait(600)\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        read_address(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_keys_are_read_anew_at_a_reload_and_stay_where_they_cannot_be(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    def status(key: str) -> int:
        return httpx.get(f"{address}/info", headers={"X-API-Key": key}).status_code

    path = tmp_path / "keys"
    path.write_text("first 1")
    with served(save_tiny(), "--api-keys-file", str(path)) as (process, address):
        assert (status("1"), status("2")) == (200, 401)
        for content, told in (("second 2", "access keys read"), ("none", "access keys not read")):
            path.write_text(content)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            assert any(f'"{told}"' in line for line in process.stderr)
            assert (status("1"), status("2")) == (401, 200)


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 524_288), [65_536]),
        ((1024, 4096), [4096]),
        ((1024, resource.RLIM_INFINITY), [65_536]),
        ((524_288, 524_288), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ],
)
def test_as_many_files_are_asked_for_as_connections_may_take(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: list[int]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr("app.__main__.configure_logs", lambda level: None)
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: set_to.append(limits))
    monkeypatch.setattr(sys, "argv", ["app", "--checkpoint", "no/such", "--api-keys-file", "none"])
    assert main() == 2
    assert set_to == [(soft, limits[1]) for soft in raised]


def test_keys_that_change_while_it_starts_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    path.write_text("first 1")
    server = Server(make_settings(tmp_path / "missing", api_keys_file=path))
    path.write_text("second 2\nthird 3")  # and SIGHUP, which nobody hears yet
    monkeypatch.setattr(uvicorn.Server, "startup", AsyncMock())
    asyncio.run(server.startup())
    assert len(server._keys) == 2


def test_a_reload_that_fails_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(make_settings(tmp_path / "missing"))
    asyncio.run(server._reload())
    assert caplog.messages == ["reload failed"]


def test_a_reload_does_not_end_what_is_starting(save_tiny: Callable[..., Path]) -> None:
    process = start("--checkpoint", str(save_tiny()), "--port", "0")
    try:
        end = time.monotonic() + DEADLINE_SECONDS
        while not _ignores_sighup(process.pid):  # which is so before torch is read
            assert time.monotonic() < end, "not in time"
            time.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        wait_healthy(read_address(process))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_while_it_starts_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.__main__.configure_logs", lambda level: None)
    monkeypatch.setattr(Server, "__init__", interrupt)
    monkeypatch.setattr(sys, "argv", ["app", "--port", "0"])
    assert main() == 130
    assert capsys.readouterr().err == ""


def _ignores_sighup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def test_at_sigterm_accepted_work_is_finished_and_new_work_refused(
    save_tiny: Callable[..., Path],
) -> None:
    long = {"texts": [f"{n} " + "word " * 1500 for n in range(60)]}
    with served(save_tiny()) as (process, address), httpx.Client(timeout=60) as client:
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(client.post, f"{address}/classify", json=long)
            with httpx.Client() as other:
                # Each question is a line in a log that nobody reads: a pipe holds some hundred.
                while "queue_texts 0.0" in other.get(f"{address}/metrics").text:
                    time.sleep(0.02)
                process.send_signal(signal.SIGTERM)
                while other.get(f"{address}/readyz").status_code == 200:
                    time.sleep(0.02)
                refused = other.post(f"{address}/classify", json={"texts": [SPAM]})
            assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
            assert int(refused.headers["retry-after"]) >= 1
            assert accepted.result().status_code == 200
            assert len(accepted.result().json()["results"]) == 60
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_the_time_to_drain_is_given_once(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(make_settings(save_tiny(), drain_seconds=20))
    now = 100.0

    async def drain() -> None:
        nonlocal now
        now += 15

    monkeypatch.setattr("app.server.monotonic", lambda: now)
    monkeypatch.setattr("app.server._NOTICE_SECONDS", 0)
    monkeypatch.setattr(server._service, "drain", drain)
    asyncio.run(server._drain())
    assert server.config.timeout_graceful_shutdown == 5


def test_probes_see_the_end_come_before_work_is_waited_for_and_the_port_closed(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(make_settings(save_tiny(), drain_seconds=20))
    order: list[tuple[object, bool]] = []

    async def sleep(seconds: float) -> None:
        order.append((seconds, server.should_exit))

    async def drain() -> None:
        order.append(("drain", server.should_exit))

    monkeypatch.setattr("app.server.asyncio.sleep", sleep)
    monkeypatch.setattr(server._service, "drain", drain)
    asyncio.run(server._drain())
    assert order == [(0.5, False), ("drain", False)]
    assert server.should_exit


def test_who_drains_says_at_once_that_connections_end(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only once uvicorn makes its list anew: a request on a kept connection would be lost."""
    server = Server(make_settings(save_tiny(), drain_seconds=0))
    date = (b"date", b"today")
    server.server_state.default_headers = [date, (b"connection", b"keep-alive")]
    monkeypatch.setattr("app.server._NOTICE_SECONDS", 0)
    asyncio.run(server._drain())
    assert server.server_state.default_headers == [date, (b"connection", b"close")]
    assert server.config.encoded_headers == [(b"connection", b"close")]


def test_idle_connections_outlive_those_of_rspamd(save_tiny: Callable[..., Path]) -> None:
    assert Server(make_settings(save_tiny())).config.timeout_keep_alive > 60


def test_a_signal_before_the_service_has_started_ends_it(save_tiny: Callable[..., Path]) -> None:
    async def scenario() -> bool:
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.sleep(0)
        [draining] = server._tasks
        await draining
        return server.should_exit

    server = Server(make_settings(save_tiny(), drain_seconds=0))
    assert asyncio.run(scenario())


@pytest.mark.parametrize(
    ("in_worker", "seconds_later", "ends"),
    [(False, 0.1, True), (True, 0.1, False), (True, 1.1, True)],
)
def test_a_second_signal_ends_at_once_but_not_one_that_a_worker_gets_twice(
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    in_worker: bool,
    seconds_later: float,
    ends: bool,
) -> None:
    now = 100.0

    async def scenario() -> tuple[bool, bool]:
        nonlocal now
        server.handle_exit(signal.SIGTERM, None)
        at_first = server.should_exit or server.force_exit
        now += seconds_later
        server.handle_exit(signal.SIGTERM, None)
        return at_first, server.should_exit and server.force_exit

    monkeypatch.setattr("app.server.monotonic", lambda: now)
    monkeypatch.setattr("app.server.is_worker", lambda: in_worker)
    server = Server(make_settings(save_tiny(), drain_seconds=0))
    assert asyncio.run(scenario()) == (False, ends)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--checkpoint", "no/such/folder"], "no checkpoint folder at no/such/folder"),
        (["--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--port", "70000"], "port is '70000'"),
        (["--host", ""], "host is ''"),
        (["--checkpoint", ""], "checkpoint is ''"),
        (["--host", "no-such-host.invalid"], "cannot listen on no-such-host.invalid:0"),
        (["--host", "ä..b"], "cannot listen on ä..b:0: encoding of hostname failed"),
        (["--drain-seconds", "inf"], "drain_seconds is 'inf'"),
        (["--feedback-key", "k", "--feedback-file", "no/such/f"], "feedback_file is no/such/f"),
        (["--workers", "2", "--api-keys-file", "no/such"], "file of access keys cannot be read"),
    ],
)
def test_a_service_that_cannot_start_says_why_and_returns_2(
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: str,
) -> None:
    monkeypatch.setattr("app.__main__.configure_logs", lambda level: None)
    arguments = ["--checkpoint", str(save_tiny()), "--port", "0", *flags]
    monkeypatch.setattr(sys, "argv", ["app", *arguments])
    assert main() == 2
    errors = capsys.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("spamgate: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in errors


def test_variables_that_no_setting_reads_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    levels: list[str] = []
    monkeypatch.setattr("app.__main__.configure_logs", levels.append)
    flags = ["--api-keys-file", str(tmp_path / "absent"), "--log-level", "warning"]
    monkeypatch.setattr(sys, "argv", ["app", *flags])
    for name in ("SPAMGATE_API_KEY_FILE", "SPAMGATE_THREADS", "SPAMGATE_SPAMD_PORT"):
        monkeypatch.setenv(name, "1")
    assert main() == 2
    [record] = caplog.records
    assert vars(record)["variables"] == ["SPAMGATE_API_KEY_FILE"]
    assert levels == ["warning"]


def test_a_port_that_is_taken_is_named(save_tiny: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--checkpoint", str(save_tiny()), "--port", str(port))
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2
    assert errors.startswith(f"spamgate: cannot listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in errors


def test_altered_golden_answers_refuse_the_start(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["spam_probability"] = 1 - golden[0]["spam_probability"] + 0.1
    (folder / "golden.json").write_text(json.dumps(golden))
    process = start("--checkpoint", str(folder), "--port", "0")
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2
    assert "golden message 0" in errors
    assert "Traceback" not in errors
