"""Standard error and output where they cannot be written: what has to end ends, as it would."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app import bulk
from app.__main__ import main
from app.service import MODEL_FAILED, Service
from tests.conftest import written
from tests.serving import make_settings
from tests.test_process import DEADLINE_SECONDS, ROOT


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def pipe_that_nobody_reads() -> int:
    reads, writes = os.pipe()
    os.close(reads)
    return writes


class Unwritable(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_service_that_can_never_work_ends_though_nobody_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Unwritable())
    codes: list[int] = []
    Service(make_settings(tmp_path), codes.append)._fail("the model is gone", MODEL_FAILED)
    assert codes == [MODEL_FAILED]


def test_wrong_settings_return_2_though_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Unwritable())
    monkeypatch.setattr("sys.argv", ["app", "--port", "70000"])
    assert main() == 2


@pytest.mark.parametrize("broken", [full, pipe_that_nobody_reads])
def test_a_process_without_a_checkpoint_ends_with_2_though_nobody_can_be_told(
    broken: Callable[[], int],
) -> None:
    stderr = broken()
    command = [sys.executable, "-m", "app", "--port", "0", "--checkpoint", "no/such"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)
    os.close(stderr)
    try:
        assert process.wait(timeout=DEADLINE_SECONDS) == 2
    finally:
        process.kill()
        process.wait()


def test_archives_are_scored_though_nobody_can_be_told(
    save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, out = written(tmp_path / "a.txt", "Hello\n"), tmp_path / "out.jsonl"
    monkeypatch.setattr("sys.stdout", Unwritable())
    flags = ["--checkpoint", str(save_tiny()), "--device", "cpu"]
    assert bulk.main([str(texts), "--out", str(out), *flags]) == 0
    assert out.read_text().count("\n") == 1
