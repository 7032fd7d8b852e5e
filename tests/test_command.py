"""How commands of training end."""

import errno
import importlib
import sys
from pathlib import Path

import pytest

from model.checkpoint import CheckpointError
from training.command import check_new, exit_code, portable
from training.config import TrainingError

STORIES = {
    TrainingError("too few texts."): (2, "training.x: too few texts.\n"),
    OSError(errno.ENOSPC, "No space left"): (2, "training.x: no space left on the disk; "),
    PermissionError(errno.EACCES, "Permission denied", "a"): (
        2,
        "training.x: cannot read or write",
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


def test_a_new_place_is_free_and_takes_files(tmp_path: Path) -> None:
    check_new(tmp_path / "runs" / "new")
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(CheckpointError, match="exists already"):
        check_new(tmp_path / "runs")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        check_new(tmp_path / "file" / "run")
    if Path("/proc").is_dir():
        with pytest.raises(OSError, match="/proc"):
            check_new(Path("/proc/run"))


def test_a_command_without_its_extra_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "training")
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("training")
    assert ended.value.code == 2
    expected = "training: matplotlib not found: install the extra `train` with scripts/setup train."
    assert capsys.readouterr().err == f"{expected}\n"


def test_of_a_path_on_this_machine_its_name_is_written_down() -> None:
    assert portable("training/configs/a.toml") == "training/configs/a.toml"
    assert portable(Path("/home/somebody/a.toml")) == "a.toml"
