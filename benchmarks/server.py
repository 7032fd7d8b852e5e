"""A real service in its own process, for benchmarks: started, waited for, ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START_SECONDS = 300


@dataclass(frozen=True)
class Running:
    """A healthy server: its address, its process, and the seconds until its first 200."""

    url: str
    pid: int
    startup_seconds: float


@contextmanager
def started(
    command: list[str], port: int, *, health: str = "/health", log: Path | None = None
) -> Iterator[Running]:
    """Runs a command that serves on ``port`` until the block ends.

    Raises:
        RuntimeError: it ended, or gave no 200 on ``health`` in time.
    """
    begin = time.perf_counter()
    with (log or Path(os.devnull)).open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_healthy(process, url + health, begin + _START_SECONDS)
        yield Running(url, process.pid, time.perf_counter() - begin)
    finally:
        # Some servers leave processes behind when they end, of its group or of their own.
        others = list(_descendants(process.pid))
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for_workers(server: Running, workers: int) -> None:
    """Returns when so many of spamgate's workers can classify; the first answers for all.

    Connections opened before would all be the first one's, for as long as they are kept.

    Raises:
        RuntimeError: they could not in time.
    """
    deadline = time.perf_counter() + _START_SECONDS
    while time.perf_counter() < deadline:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as reply:
            if f"spamgate_ready {workers:.1f}\n".encode() in reply.read():
                return
        time.sleep(0.01)
    raise RuntimeError(f"{workers} workers were not ready in {_START_SECONDS} s")


def spamgate(port: int, *flags: str) -> list[str]:
    """The command that serves on this port."""
    return [sys.executable, "-m", "app", "--port", str(port), *flags]


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_healthy(process: subprocess.Popen[bytes], url: str, deadline: float) -> None:
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with code {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:  # refused, or not healthy yet
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"{process.args!r} was not healthy in {_START_SECONDS} s")


def _descendants(pid: int) -> Iterator[int]:
    """The processes that this one has started and those that they have; none but on Linux."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            for child in map(int, children.read_text().split()):
                yield child
                yield from _descendants(child)
