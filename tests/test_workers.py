"""Several workers behind one port: one set of metrics, the dead replaced, one end for all."""

import asyncio
import errno
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app.feedback import FeedbackStore, Report
from app.main import _work_beside_others, create_app
from app.service import MODEL_FAILED
from app.settings import SettingsError, read_settings
from app.workers import Workers, listen, url_of
from tests.conftest import HAM, SPAM
from tests.serving import make_settings
from tests.test_process import read_address, served, start, wait_healthy

ALL_READY_SECONDS = 60


def workers_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether this process is there and no zombie, which nobody may collect in a container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def metric(address: str, name: str) -> float:
    text = httpx.get(f"{address}/metrics").text
    return sum(float(v) for v in re.findall(rf"^spamgate_{name}(?:{{.*}})? (\S+)$", text, re.M))


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + ALL_READY_SECONDS
    while not is_so():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)  # other processes work on it; there is nothing to wait for


def is_cut_off(client: socket.socket) -> bool:
    """Whether a connection was taken and not answered."""
    with client:
        client.settimeout(1)
        try:
            return not client.recv(100)
        except OSError:
            return True


def test_workers_count_together_are_replaced_and_end_together(
    save_tiny: Callable[..., Path],
) -> None:
    with served(save_tiny(), "--workers", "2") as (process, address):
        wait_until(lambda: metric(address, "ready") == 2)
        first, second = workers_of(process.pid)
        for _ in range(20):  # a connection each, so that both workers get some
            reply = httpx.post(f"{address}/classify", json={"texts": [SPAM, HAM]}, timeout=30)
            assert reply.status_code == 200
        assert metric(address, "tokenize_seconds_count") == 20
        assert metric(address, "texts_total") == 40
        assert metric(address, "model_info") == 2
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(process.pid)) - {first}) == 2)
        for _ in range(5):
            reply = httpx.post(f"{address}/classify", json={"texts": [SPAM]}, timeout=30)
            assert reply.status_code == 200
        wait_until(lambda: metric(address, "ready") == 2)
        assert (
            metric(address, "tokenize_seconds_count") == 25
        )  # what the dead one counted stays counted
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert not Path(f"/proc/{second}").exists()


def test_a_signal_to_the_whole_group_loses_no_request_and_then_nobody_connects(
    save_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "feedback.sqlite"
    flags = ["--feedback-key", "k", "--feedback-file", str(file), "--drain-seconds", "5"]
    with served(save_tiny(), "--workers", "2", *flags) as (process, address):
        wait_until(lambda: metric(address, "ready") == 2)
        told = {"label": "spam", "text": SPAM}
        reply = httpx.post(f"{address}/feedback", json=told, headers={"X-API-Key": "k"})
        assert reply.status_code == 200
        for pid in workers_of(process.pid):  # as systemd does, which signals all in some order
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        clients, refused = [], 0
        while process.poll() is None:
            try:
                clients.append(socket.create_connection(("127.0.0.1", int(address.split(":")[2]))))
                clients[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            except OSError:
                refused += 1
            time.sleep(0.02)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert sum(is_cut_off(client) for client in clients) <= 2  # as the last socket is closed
        assert refused > 5
    # Each worker has closed the file; where both do so at once, SQLite leaves its log to the next.
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM feedback").fetchone() == (1,)
    assert [path.name for path in tmp_path.iterdir() if "feedback" in path.name] == [file.name]


def test_a_reload_ends_no_worker_that_is_starting(save_tiny: Callable[..., Path]) -> None:
    process = start("--checkpoint", str(save_tiny()), "--port", "0", "--workers", "2")
    try:
        wait_until(lambda: len(workers_of(process.pid)) == 2)
        before = workers_of(process.pid)
        process.send_signal(signal.SIGHUP)  # goes to all of them
        address = read_address(process)
        wait_healthy(address)
        wait_until(lambda: metric(address, "ready") == 2)
        assert workers_of(process.pid) == before
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate(timeout=ALL_READY_SECONDS)


def test_workers_do_not_outlive_a_parent_killed_before_they_are_ready(
    save_tiny: Callable[..., Path],
) -> None:
    process = start("--checkpoint", str(save_tiny()), "--port", "0", "--workers", "2")
    try:
        wait_until(lambda: len(workers_of(process.pid)) == 2)
        workers = workers_of(process.pid)
    finally:
        process.kill()
        process.communicate(timeout=ALL_READY_SECONDS)  # they hold the other end, too
    wait_until(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--checkpoint", "no/such/folder"], "no checkpoint folder at no/such/folder"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:"),
    ],
)
def test_workers_that_cannot_start_end_with_2(flags: list[str], words: str) -> None:
    process = start("--port", "0", "--workers", "2", *flags)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert words in errors
    assert "Traceback" not in errors


def run_scripted(
    monkeypatch: pytest.MonkeyPatch,
    scripts: list[str],
    retry_seconds: float = 60.0,
    *,
    ignores_sigterm: bool = False,
    workers: int = 2,
) -> tuple[int, list[int]]:
    """Runs two workers, which are these Python scripts instead, as are those that replace them; at
    SIGTERM after the last has started. Exit codes: of the parent, of each."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def prepare() -> None:
        if ignores_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def start_next(*arguments: object, **values: Any) -> subprocess.Popen[bytes]:
        script = scripts[len(started)]
        if script == NO_PROCESS:
            scripts.remove(script)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        inherited = {name: values[name] for name in ("env", "pass_fds")}
        started.append(popen([sys.executable, "-c", script], preexec_fn=prepare, **inherited))
        if len(started) == len(scripts):
            signal.raise_signal(signal.SIGTERM)
        return started[-1]

    monkeypatch.setattr("app.workers.subprocess.Popen", start_next)
    monkeypatch.setattr("app.workers._RETRY_SECONDS", retry_seconds)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        flags = ["--port", "0", "--workers", str(workers), "--drain-seconds", "0"]
        code = Workers(read_settings(flags), []).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, [process.returncode for process in started]


RUNS = "import time; time.sleep(60)"
DIES = "import os; os.kill(os.getpid(), 9)"
CANNOT_START = "import sys; sys.exit(2)"
NO_PROCESS = "the system gives none"
GOT_IT = 7


def asks_for(number: signal.Signals) -> str:
    """A script that sends the parent a signal, and ends when it gets the same."""
    return f"""
import os, signal, time
signal.signal({number:d}, lambda *_: os._exit({GOT_IT}))
os.kill(os.getppid(), {number:d})
time.sleep(10)
"""


def test_a_signal_while_workers_are_started_ends_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_scripted(monkeypatch, [RUNS, RUNS]) == (0, [-signal.SIGTERM] * 2)


def test_workers_go_on_while_one_that_replaces_another_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripts = [RUNS, DIES, CANNOT_START, CANNOT_START, RUNS]
    code, codes = run_scripted(monkeypatch, scripts, retry_seconds=0.1)
    assert code == 0
    assert codes == [-signal.SIGTERM, -signal.SIGKILL, 2, 2, -signal.SIGTERM]


@pytest.mark.parametrize("first", [RUNS, DIES])  # of two that die none is left meanwhile
def test_workers_go_on_while_the_system_gives_no_process(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    scripts = [first, DIES, NO_PROCESS, NO_PROCESS, RUNS]
    code, codes = run_scripted(monkeypatch, scripts, retry_seconds=0.1)
    assert (code, codes[-1]) == (0, -signal.SIGTERM)


def test_workers_of_which_one_gets_no_process_do_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SettingsError, match="a worker cannot be started: Resource temporarily"):
        run_scripted(monkeypatch, [RUNS, NO_PROCESS, RUNS])


def test_workers_of_which_one_cannot_start_end_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_scripted(monkeypatch, [RUNS, CANNOT_START, RUNS]) == (2, [-signal.SIGTERM, 2])


def test_workers_of_which_none_is_left_end_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    code, codes = run_scripted(monkeypatch, [DIES, DIES, CANNOT_START, CANNOT_START, RUNS])
    assert (code, codes[-1]) == (2, 2)


def test_workers_that_keep_ending_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    code, codes = run_scripted(monkeypatch, [*[DIES] * 7, RUNS])
    assert (code, len(codes)) == (3, 7)


@pytest.mark.parametrize(("dying", "expected"), [(7, 0), (14, 3)])
def test_many_workers_may_each_end_once(
    monkeypatch: pytest.MonkeyPatch, dying: int, expected: int
) -> None:
    code, _ = run_scripted(monkeypatch, [*[DIES] * dying, *[RUNS] * 7], workers=7)
    assert code == expected


def test_workers_that_end_once_in_a_while_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.workers._REPLACED_WITHIN_SECONDS", 0.0)
    code, codes = run_scripted(monkeypatch, [*[DIES] * 7, *[RUNS] * 2])
    assert (code, codes[-1]) == (0, -signal.SIGTERM)


def test_a_worker_that_does_not_end_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.workers._GRACE_SECONDS", 0.2)
    ended = run_scripted(monkeypatch, [RUNS, RUNS], ignores_sigterm=True)
    assert ended == (3, [-signal.SIGKILL] * 2)


def test_a_reload_goes_to_every_worker_and_ends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run_scripted(monkeypatch, [RUNS, asks_for(signal.SIGHUP), RUNS])
    assert ended == (0, [-signal.SIGTERM, GOT_IT, -signal.SIGTERM])


def test_workers_of_which_one_ends_badly_at_sigterm_end_with_3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = run_scripted(monkeypatch, [RUNS, asks_for(signal.SIGTERM), RUNS])
    assert ended == (3, [-signal.SIGTERM, GOT_IT])


def test_no_worker_is_tried_again_once_all_are_to_end() -> None:
    workers = Workers(read_settings(["--workers", "2"]), [])
    workers._retry_times = [0.0]
    workers._stop(0)
    workers._collect("")
    assert workers._processes == []


def test_a_file_of_metrics_that_a_worker_had_just_made_goes_with_it(tmp_path: Path) -> None:
    workers = Workers(read_settings(["--workers", "2"]), [])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    empty, full = (tmp_path / f"{kind}_{ended.pid}.db" for kind in ("counter", "histogram"))
    empty.touch()
    full.write_bytes(b"counts")
    workers._processes = [ended]
    workers._serving = {ended.pid}
    workers._stop(0)
    workers._collect(str(tmp_path))
    assert list(tmp_path.iterdir()) == [full]


def test_an_address_with_colons_is_listened_on_and_told_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with listen(read_settings(["--host", "::1", "--port", "0"])) as listener:
        assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


def test_workers_that_make_one_file_of_feedback_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite may refuse at once what two set up at the same moment, whatever the timeout."""

    class Locked(sqlite3.Connection):
        refused = 0

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if "journal_mode" in arguments[0] and Locked.refused < 2:
                Locked.refused += 1
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(*arguments)

    monkeypatch.setattr("app.feedback.sqlite3.connect", partial(sqlite3.connect, factory=Locked))
    store = FeedbackStore(tmp_path / "f", 1 << 20)
    assert store.add(Report("0" * 64, "spam", "joe", "text"))
    store.close()
    assert Locked.refused == 2
    monkeypatch.setattr("app.feedback._LOCKED_SECONDS", 0.0)
    Locked.refused = -1_000
    with pytest.raises(SettingsError, match="database is locked"):
        FeedbackStore(tmp_path / "f", 1 << 20)


def test_an_admin_key_would_reach_one_worker_alone() -> None:
    with pytest.raises(SettingsError, match="send SIGHUP") as error:
        read_settings(["--workers", "2", "--admin-key", "top-secret"])
    assert "top-secret" not in str(error.value)


def test_a_worker_takes_no_connection_before_it_has_a_model(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> bool:
        async with app.router.lifespan_context(app):
            return app.state.service.engine is not None

    monkeypatch.setattr("app.main.is_worker", lambda: True)
    monkeypatch.setattr("app.main.is_orphan", lambda: False)
    monkeypatch.setattr("app.main.tell_parent", lambda: None)
    app = create_app(make_settings(save_tiny()))
    assert asyncio.run(scenario())


def test_a_worker_tells_its_state_until_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    is_orphan = iter((False, False, True))
    monkeypatch.setattr("app.main.is_orphan", lambda: next(is_orphan))
    monkeypatch.setattr("app.main._PUBLISH_SECONDS", 0)
    told: list[object] = []
    monkeypatch.setattr("app.main.tell_parent", lambda: told.append("serves"))
    service: Any = SimpleNamespace(publish_state=lambda: told.append("state"))
    asyncio.run(_work_beside_others(service, told.append))
    assert told == [*["state", "serves"] * 2, MODEL_FAILED]
