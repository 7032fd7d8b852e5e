"""How commands of training end."""

import errno
import importlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app import take_ctrl_c
from model.folders import CheckpointError
from training.command import CtrlC, check_folder, check_new, exit_code, portable
from training.config import TrainingError

STORIES = {
    TrainingError("too few texts."): (2, "training.x: too few texts.\n"),
    OSError(errno.ENOSPC, "No space left"): (2, "training.x: no space left on the disk; "),
    PermissionError(errno.EACCES, "Permission denied", "a"): (
        2,
        "training.x: cannot read or write",
    ),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total"): (
        2,
        "training.x: CUDA out of memory. Lower batch_size (and",
    ),
    torch.OutOfMemoryError("Allocation on device 0 would exceed. (out of memory)\nCurrently"): (
        2,
        "training.x: Allocation on device 0 would exceed. Lower batch_size (and",
    ),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported"): (
        2,
        "training.x: CUDA error: out of memory. Lower batch_size (and",
    ),
    MemoryError(): (2, "training.x: there is not enough memory. Lower batch_size (and"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"): (
        2,
        "training.x: there is not enough memory. Lower",
    ),
    KeyboardInterrupt(): (130, "\ntraining.x: interrupted.\n"),
}


@pytest.mark.parametrize("error", STORIES, ids=lambda error: type(error).__name__)
def test_what_ends_a_command_is_one_line_and_an_exit_code(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        raise error

    code, line = STORIES[error]
    assert exit_code("training.x", run) == code
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("command", ["training.evaluate", "app.bulk", "app.spamd", "app"])
def test_ctrl_c_while_a_command_is_imported_ends_it_without_a_traceback(command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", command, "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run started in the background ignores Ctrl-C, and would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    package = command.partition(".")[0]
    next(line for line in process.stderr if line.endswith(f"| {package}\n"))
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in told
    assert not out


def test_an_imported_command_takes_ctrl_c_as_python_does() -> None:
    found: list[object] = []

    def run() -> int:
        found.append(signal.getsignal(signal.SIGINT))
        return 0

    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        assert exit_code("training.x", run) == 0
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        take_ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        take_ctrl_c()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [signal.default_int_handler]


def test_ctrl_c_ends_a_training_and_only_the_second_time_what_comes_after_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with CtrlC() as ctrl_c:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert not ctrl_c.was_noted
            signal.raise_signal(signal.SIGINT)  # who presses twice keeps the run
            assert ctrl_c.was_noted
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert capsys.readouterr().out.count("the run is being measured and saved") == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with CtrlC() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
        assert not ctrl_c.was_noted
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_new_place_is_free_and_takes_files(tmp_path: Path) -> None:
    check_new(tmp_path / "runs" / "new")
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(CheckpointError, match="exists already"):
        check_new(tmp_path / "runs")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        check_new(tmp_path / "file" / "run")
    with pytest.raises(CheckpointError, match="runs is a folder"):
        check_folder(tmp_path / "runs")
    if Path("/proc").is_dir():
        with pytest.raises(OSError, match="/proc"):
            check_new(Path("/proc/run"))


def test_a_command_without_its_extra_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "training")
    with pytest.raises(ModuleNotFoundError, match="scripts/setup train"):
        importlib.import_module("training")  # into a program of others
    monkeypatch.setattr(sys, "argv", ["-m", "recipe.toml"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("training")
    assert ended.value.code == 2
    expected = "training: matplotlib not found: install the extra `train` with scripts/setup train."
    assert capsys.readouterr().err == f"{expected}\n"


def test_of_a_path_on_this_machine_its_name_is_written_down() -> None:
    assert portable("training/configs/a.toml") == "training/configs/a.toml"
    assert portable(Path("/home/somebody/a.toml")) == "a.toml"
