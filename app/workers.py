"""SPAMGATE_WORKERS processes behind one port, each with a model of its own; the parent watches.

The parent opens the port and starts ``python -m app`` once for each worker, with the open socket.
Whoever is free accepts the next connection. Signals go to all workers; one that ends by itself is
replaced. Prometheus' own files for several processes make one set of metrics of theirs.
"""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from app.settings import Settings, SettingsError

SOCKET_FD = "SPAMGATE_WORKER_SOCKET"
"""Set for a worker: the number of the socket that it serves."""
PARENT_PID = "SPAMGATE_WORKER_PARENT"
"""Set for a worker: the process that started it."""
SERVING_FD = "SPAMGATE_WORKER_SERVING"
"""Set for a worker: the number of the pipe in which it says that it serves."""
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Set for a worker, and read by prometheus_client when it is imported."""
STARTUP_FAILED = 2
"""Exit code where the settings, the checkpoint or the device cannot be used."""
WORKERS_FAILED = 3

_log = logging.getLogger("spamgate")

_POLL_SECONDS = 0.1
# So many workers replaced in so short a time, or all of more: something is wrong with each of them.
_MAX_REPLACED = 5
_REPLACED_WITHIN_SECONDS = 60.0
# What a worker that replaces another could not start with may be mended by then.
_RETRY_SECONDS = 10.0
# A worker that serves, and then does not say so for as long, hangs; none is busy for a minute
# without a pause for its event loop.
_SILENT_SECONDS = 60.0
# What uvicorn may need beyond the time to drain.
_GRACE_SECONDS = 15.0
_BACKLOG = 2048
_PIPE_BYTES = 1 << 16  # all that one holds, so that no number is cut
# Metrics of one worker take 24 KiB, and more with each model that it reads.
_ROOM_BYTES = 1 << 16


def inherited_socket() -> socket.socket | None:
    """The socket that this process was started to serve; None where it is no worker."""
    number = os.environ.get(SOCKET_FD)
    return socket.socket(fileno=int(number)) if number else None


def is_worker() -> bool:
    """Whether this process is one of several."""
    return SOCKET_FD in os.environ


def is_orphan() -> bool:
    """Whether the process that started this worker is gone, perhaps before it was ready."""
    return os.getppid() != int(os.environ[PARENT_PID])


def tell_parent() -> None:
    """Says to the process that started this worker that it serves."""
    with suppress(OSError):  # the pipe is full, as the parent is stopped, or the parent is gone
        os.write(int(os.environ[SERVING_FD]), b"%d " % os.getpid())


class Workers:
    """The processes of one service.

    Args:
        settings: as the workers will read them.
        arguments: command line for the workers, which gives those settings.
    """

    def __init__(self, settings: Settings, arguments: list[str]) -> None:
        self._settings = settings
        self._arguments = arguments
        self._processes: list[subprocess.Popen[bytes]] = []
        self._replaced: deque[float] = deque(maxlen=max(_MAX_REPLACED, settings.workers))
        self._first_pids: set[int] = set()
        # Those that have said so, and the first ones until they end.
        self._serving: set[int] = set()
        self._silent_polls: dict[int, int] = {}  # since each has said so
        self._retry_times: list[float] = []
        self._stopping_since: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Serves until a signal; returns the exit code.

        Raises:
            SettingsError: the port cannot be opened, no folder be made, or no process be started.
        """
        with (
            listen(self._settings) as listener,
            _metrics_folder(self._settings.workers) as metrics,
            _pipe() as (self._told, tells),
        ):
            self._environment = os.environ | {
                SOCKET_FD: str(listener.fileno()),
                PARENT_PID: str(os.getpid()),
                SERVING_FD: str(tells),
                METRICS_FOLDER: metrics,
            }
            self._fds = (listener.fileno(), tells)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop_at_signal)
            signal.signal(signal.SIGHUP, self._pass_on)
            for _ in range(self._settings.workers):
                self._start_first()
            self._first_pids = {process.pid for process in self._processes}
            self._serving |= self._first_pids
            count = len(self._processes)
            _log.info("%d workers running on %s (SIGTERM ends them)", count, url_of(listener))
            while self._processes or (self._retry_times and self._stopping_since is None):
                time.sleep(_POLL_SECONDS)
                self._listen_to_workers()
                if self._stopping_since is None:
                    self._kill_silent()
                self._collect(metrics)
                if self._stopping_since is not None:
                    # The workers have it, too. Once they have closed theirs, connections are
                    # refused; open here, they would be taken by nobody.
                    listener.close()
            return self._exit_code

    def _start(self) -> None:
        command = [sys.executable, "-m", "app", *self._arguments]
        # What is ignored now, a worker ignores from its first instruction until it can reload.
        passes_on = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            # A group of its own: Ctrl-C comes from here, once.
            process = subprocess.Popen(
                command, env=self._environment, pass_fds=self._fds, start_new_session=True
            )
        finally:
            signal.signal(signal.SIGHUP, passes_on)
        self._processes.append(process)
        if self._stopping_since is not None:  # the signal came while it was started
            process.send_signal(signal.SIGTERM)

    def _start_first(self) -> None:
        try:
            self._start()
        except OSError as error:
            for process in self._processes:  # none of them has a model yet
                process.kill()
                process.wait()
            raise SettingsError(f"a worker cannot be started: {error.strerror}.") from error

    def _start_again(self) -> None:
        """As ``_start``; where the system gives no process, memory or room, it is tried later."""
        try:
            _prove_room(self._environment[METRICS_FOLDER])
            self._start()
        except OSError as error:
            told = {"reason": error.strerror, "seconds": _RETRY_SECONDS}
            _log.error("a worker cannot be started and is tried again", extra=told)
            self._retry_times.append(time.monotonic() + _RETRY_SECONDS)

    def _listen_to_workers(self) -> None:
        with suppress(BlockingIOError):  # none has said anything
            heard = {int(pid) for pid in os.read(self._told, _PIPE_BYTES).split()}
            heard &= {process.pid for process in self._processes}
            self._serving |= heard
            self._silent_polls |= dict.fromkeys(heard, 0)

    def _kill_silent(self) -> None:
        # Not by the clock, which goes on while this process is stopped, or the whole machine.
        for process in self._processes:
            if process.pid not in self._silent_polls:  # it loads its first model
                continue
            self._silent_polls[process.pid] += 1
            if self._silent_polls[process.pid] * _POLL_SECONDS > _SILENT_SECONDS:
                _log.error("a worker hangs and is killed", extra={"seconds": _SILENT_SECONDS})
                del self._silent_polls[process.pid]
                process.kill()

    def _collect(self, metrics: str) -> None:
        for process in [p for p in self._processes if p.poll() is not None]:
            self._processes.remove(process)
            has_served = process.pid in self._serving
            self._serving.discard(process.pid)
            self._silent_polls.pop(process.pid, None)
            mark_process_dead(process.pid, metrics)  # type: ignore[no-untyped-call]
            for path in Path(metrics).glob(f"*_{process.pid}.db"):
                # Empty: just made as it ended, and unreadable to the others. Of one that has not
                # served: it counted nothing, and is tried again and again.
                if not has_served or path.stat().st_size == 0:
                    path.unlink()
            if self._stopping_since is not None:
                # One that is still starting ends by the signal itself.
                ended_well = process.returncode in (0, -signal.SIGTERM)
                self._exit_code = self._exit_code or (0 if ended_well else WORKERS_FAILED)
            elif process.returncode == STARTUP_FAILED:  # it has said why
                self._retry(process)
            else:
                self._replace(process, has_served)
        for due in [t for t in self._retry_times if t <= time.monotonic()]:
            self._retry_times.remove(due)
            if self._stopping_since is None:
                self._start_again()
        if self._stopping_since is not None and time.monotonic() > self._stopping_since + (
            self._settings.drain_seconds + _GRACE_SECONDS
        ):
            self._exit_code = self._exit_code or WORKERS_FAILED
            for process in self._processes:
                process.kill()

    def _retry(self, failed: subprocess.Popen[bytes]) -> None:
        # The others have started: checkpoint or keys have been spoilt since, and they can go on.
        if failed.pid in self._first_pids or not self._processes:
            self._stop(STARTUP_FAILED)
            return
        _log.error("a worker cannot start and is tried again", extra={"seconds": _RETRY_SECONDS})
        self._retry_times.append(time.monotonic() + _RETRY_SECONDS)

    def _replace(self, ended: subprocess.Popen[bytes], has_served: bool) -> None:
        now = time.monotonic()
        is_often = len(self._replaced) == self._replaced.maxlen and (
            now - self._replaced[0] < _REPLACED_WITHIN_SECONDS
        )
        told: dict[str, float] = {"exit_code": ended.returncode}
        if self._serving and (is_often or not has_served):
            # As in the middle of an upgrade: what ends it need not end the others.
            told["seconds"] = _RETRY_SECONDS
            _log.error("a worker ended and is tried again", extra=told)
            self._retry_times.append(now + _RETRY_SECONDS)
        elif is_often:
            _log.error("workers keep ending", extra=told)
            self._stop(WORKERS_FAILED)
        else:
            _log.error("a worker ended and is replaced", extra=told)
            self._replaced.append(now)
            self._start_again()

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._stopping_since = time.monotonic()
        self._signal_all(signal.SIGTERM)

    def _stop_at_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
        self._signal_all(signal.SIGTERM)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Where workers are heard, and where they speak; nobody waits at either end."""
    ends = os.pipe()
    try:
        for end in ends:
            os.set_blocking(end, False)
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextmanager
def _metrics_folder(workers: int = 1) -> Iterator[str]:
    """A folder for the workers' metrics, with room for so many, locked: what tidies /tmp leaves it
    alone then."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="spamgate-")
    except OSError as error:
        raise SettingsError(
            f"no folder for temporary files ({error.strerror}), which several workers need: set "
            "TMPDIR to one that can be written to."
        ) from error
    with folder as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system that knows no locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            try:
                _prove_room(name, workers)
            except OSError as error:
                raise SettingsError(f"{error.strerror}.") from error
            yield name
        finally:
            os.close(descriptor)


def _prove_room(folder: str, workers: int = 1) -> None:
    """Writes as much as the metrics of so many workers take. Their files have holes, and SIGBUS
    would end a worker that fills one where there is no room.

    Raises:
        OSError: this cannot be written.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(workers * _ROOM_BYTES))  # which no file system makes smaller
    except OSError as error:
        raise OSError(
            error.errno,
            f"the workers' metrics cannot be written to {folder} ({error.strerror}): make room "
            "there, or set TMPDIR to a folder that has some",
        ) from error


def listen(settings: Settings) -> socket.socket:
    """The open port.

    Raises:
        SettingsError: it cannot be opened.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, TypeError) as error:  # the second of a name that no host can have
        listener.close()
        where, reason = f"{settings.host}:{settings.port}", getattr(error, "strerror", None)
        raise SettingsError(f"cannot listen on {where}: {reason or error}") from error
    listener.listen(_BACKLOG)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where an open port is asked."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
