"""What a figure was measured on is recorded beside it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.environment import commit, describe, processor


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_recorded_and_whether_the_code_is_another(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert commit(tmp_path) is None
    code, result = tmp_path / "code.py", tmp_path / "benchmarks" / "results" / "a.json"
    result.parent.mkdir(parents=True)
    for path in (code, result):
        path.write_text("before")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    head = git("rev-parse", "--short=12", "HEAD")
    result.write_text("measured")
    assert commit(tmp_path) == head
    code.write_text("after")
    assert commit(tmp_path) == f"{head}+"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("fpu avx2 avx512f avx512_bf16", "Any CPU with AVX512-BF16"),
        ("avx2 avx512f", "Any CPU with AVX512"),
        ("fpu avx2", "Any CPU with AVX2"),
        ("fpu", "Any CPU"),
    ],
)
def test_the_processor_is_told_with_what_makes_it_fast(
    tmp_path: Path, flags: str, told: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    core = f"processor\t: 0\nmodel name\t: Any CPU\nflags\t\t: {flags}\nbugs\t: a: b\n\n"
    cpuinfo.write_text(core * 2)
    assert processor(cpuinfo) == told
    assert processor(tmp_path / "none")


def test_a_package_that_is_not_installed_costs_no_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.environment.PACKAGES", ("torch", "no-such-package"))
    versions = describe("benchmarks.some")["versions"]
    assert isinstance(versions, dict)
    assert list(versions) == ["torch"]
