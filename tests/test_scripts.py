"""The scripts: what they are told wrongly, and a checkout that has been moved."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.parametrize("arguments", [[], ["server"]])
def test_setup_without_a_known_extra_says_which_there_are(arguments: list[str]) -> None:
    done = subprocess.run([SCRIPTS / "setup", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "spamgate: usage: scripts/setup serve|train|dev\n"


def test_no_script_runs_what_names_the_path_of_the_environment() -> None:
    """Of .venv/bin the interpreter alone works after the checkout has been moved."""
    for script in SCRIPTS.iterdir():
        run = re.findall(r"\.venv/bin/(\w+)", script.read_text(encoding="utf-8"))
        assert set(run) <= {"python"}, script.name
