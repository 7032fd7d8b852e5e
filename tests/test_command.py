"""How commands of training end."""

import errno

import pytest

from training.command import exit_code
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
