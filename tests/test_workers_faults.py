"""What spoils one worker of several: the others serve on, and another takes its place in time."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from app.settings import read_settings
from app.workers import SERVING_FD, Workers, _pipe, tell_parent
from tests.test_workers import DIES, RUNS, run_scripted


def test_workers_go_on_while_what_replaces_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, codes = run_scripted(monkeypatch, [RUNS, *[DIES] * 8, RUNS], retry_seconds=0.1)
    assert code == 0
    assert codes == [-signal.SIGTERM, *[-signal.SIGKILL] * 8, -signal.SIGTERM]


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
