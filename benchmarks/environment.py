"""What a figure was measured on: commit, processor, memory, versions, command."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    "torch",
    "numpy",
    "tiktoken",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "pydantic",
)


def describe(module: str, gpu: str = "no GPU used") -> dict[str, object]:
    """The code, the machine, the versions and the command of this run of ``python -m module``."""
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "commit": commit(),
        "hardware": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB, {gpu}",
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "versions": {name: version(name) for name in PACKAGES},
    }


def commit(folder: Path = Path(__file__).parents[1]) -> str | None:
    """The commit of a folder, ``+`` behind it where files but results differ; None without git."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=False
        )

    if shutil.which("git") is None or (head := git("rev-parse", "--short=12", "HEAD")).returncode:
        return None
    code = ("--untracked-files=no", "--", ".", ":!benchmarks/results")
    return head.stdout.strip() + "+" * bool(git("status", "--porcelain", *code).stdout)


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB, where /proc tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(kib) / 1024, 1)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
