"""What a figure was measured on: commit, processor, memory, versions, command."""

import contextlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from model.folders import write_json

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
# Flags of x86 processors, the best one for matrix products first.
_EXTENSIONS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX512-BF16",
    "avx512f": "AVX512",
    "avx2": "AVX2",
}


def describe(
    module: str, gpu: str = "no GPU used", arguments: str | None = None
) -> dict[str, object]:
    """The code, the machine, the versions and the command of this run of ``python -m module``.

    Args:
        module: its name.
        gpu: which one computed.
        arguments: of the command, where those that were given name places of this machine.
    """
    given = shlex.join(sys.argv[1:]) if arguments is None else arguments
    return {
        "command": f"python -m {module} {given}".rstrip(),
        "commit": commit(),
        "hardware": f"{processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB, {gpu}",
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Of what is installed: a command that starts no server needs none of a server's packages."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Writes what was measured, and prints it as one line, the last one."""
    write_json(path, result)
    print(json.dumps(result))


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


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its name, and the best of its extensions for matrix products, where the system tells."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    parts = (line.partition(":") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in parts}  # those of the last core
    flags = fields.get("flags", "").split()
    extension = next((f" with {name}" for flag, name in _EXTENSIONS.items() if flag in flags), "")
    return fields.get("model name", platform.machine()) + extension


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
