"""What spoils one worker of several: the others serve on, and another takes its place in time."""

import os
import re
import signal
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.settings import SettingsError, read_settings
from app.workers import METRICS_FOLDER, SERVING_FD, Workers, _metrics_folder, _pipe, tell_parent
from tests.test_workers import DIES, RUNS, run_scripted

SAYS_ONCE = f"import os; os.write(int(os.environ[{SERVING_FD!r}]), b'%d ' % os.getpid()); {RUNS}"
NO_ROOM = r"cannot be written to .*/spamgate-\w+ \(No space left on device\): .* set TMPDIR"


def test_workers_go_on_while_what_replaces_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, codes = run_scripted(monkeypatch, [RUNS, *[DIES] * 8, RUNS], retry_seconds=0.1)
    assert code == 0
    assert codes == [-signal.SIGTERM, *[-signal.SIGKILL] * 8, -signal.SIGTERM]


def test_a_worker_that_never_served_leaves_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    files = f"import os, sys, pathlib; folder = pathlib.Path(os.environ[{METRICS_FOLDER!r}]);"
    writes = f"{files} (folder / f'counter_{{os.getpid()}}.db').write_bytes(b'x'); sys.exit(2)"
    counts = f"{files} sys.exit(10 + len([*folder.glob('counter_*.db')]))"
    scripts = [RUNS, DIES, writes, counts, RUNS]
    code, codes = run_scripted(monkeypatch, scripts, retry_seconds=0.1)
    assert (code, codes[2:4]) == (0, [2, 10])


def test_a_worker_serves_once_it_has_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(read_settings(["--workers", "2"]), [])
    this: Any = SimpleNamespace(pid=os.getpid())
    workers._processes = [this]
    with _pipe() as (workers._told, tells):
        monkeypatch.setenv(SERVING_FD, str(tells))
        workers._listen_to_workers()
        assert workers._serving == set()
        for _ in range(70_000):  # more than a pipe holds: nobody waits for a parent that is stopped
            tell_parent()
        workers._listen_to_workers()
        assert workers._serving == {os.getpid()}


def files_with_room(times: set[int]) -> Callable[..., Any]:
    """``tempfile.TemporaryFile``, whose files can be written these times it is called alone."""
    calls = 0
    with_room = tempfile.TemporaryFile

    def make(**values: Any) -> Any:
        nonlocal calls
        calls += 1
        return with_room(**values) if calls in times else open("/dev/full", "wb")

    return make


def test_workers_without_room_for_their_metrics_do_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.workers.tempfile.TemporaryFile", files_with_room(set()))
    with pytest.raises(SettingsError, match=NO_ROOM), _metrics_folder(2):
        pass


def test_workers_go_on_while_there_is_no_room_for_the_metrics_of_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.workers.tempfile.TemporaryFile", files_with_room({1, 4}))
    code, codes = run_scripted(monkeypatch, [RUNS, DIES, RUNS], retry_seconds=0.1)
    assert code == 0
    assert codes == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM]
    reasons = [vars(record)["reason"] for record in caplog.records if hasattr(record, "reason")]
    assert len(reasons) == 2
    assert all(re.search(NO_ROOM, reason) for reason in reasons)


def test_a_worker_that_hangs_is_replaced_and_not_one_that_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.workers._SILENT_SECONDS", 0.3)
    code, codes = run_scripted(monkeypatch, [RUNS, SAYS_ONCE, RUNS])
    assert (code, codes) == (0, [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGTERM])


def test_a_worker_hangs_once_it_has_been_silent_for_a_minute_of_polls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed: list[str] = []
    workers = Workers(read_settings(["--workers", "2"]), [])
    this: Any = SimpleNamespace(pid=os.getpid(), kill=lambda: killed.append("killed"))
    workers._processes = [this]
    with _pipe() as (workers._told, tells):
        monkeypatch.setenv(SERVING_FD, str(tells))
        for polls in (0, 599, 600):
            tell_parent()
            workers._listen_to_workers()
            for _ in range(polls):
                workers._kill_silent()
            assert killed == []
        for _ in range(700):
            workers._kill_silent()
        assert killed == ["killed"]
