"""Server: the application under uvicorn, drained at the first signal, reloaded at SIGHUP."""

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from time import monotonic
from types import FrameType

import uvicorn

from app.access import AccessKeys, KeysError
from app.errors import ReloadFailed
from app.main import create_app
from app.protocol import BoundedProtocol
from app.service import Service
from app.settings import Settings
from app.workers import is_worker, url_of

_log = logging.getLogger("spamgate")

# rspamd keeps a connection only where the reply says so; idle ones live longer than its own 60 s.
_HEADERS = [("Connection", "keep-alive")]
_KEEP_ALIVE_SECONDS = 75
# Whose X-Forwarded-For counts unless uvicorn's own variable says otherwise: all who are taken for
# this machine itself, in the forms in which sockets of either kind tell its addresses.
_PROXIES = "127.0.0.0/8,::1,::ffff:127.0.0.0/104"
# Torch gives up the interpreter's lock in every operation; to get it back from a busy event loop it
# must not wait Python's 5 ms.
_SWITCH_SECONDS = 0.0005
# Objects made and not yet freed until garbage is collected. Requests leave next to none, and at
# Python's 700 the collector would take 4 % of the time to find that out.
_GARBAGE_THRESHOLD = 20_000
# A service manager may signal all of a group, and the parent of workers passes on what it gets.
_SAME_SIGNAL_SECONDS = 1.0
# Probes and balancers that come back see 503 before connections are refused.
_NOTICE_SECONDS = 0.5


class Server(uvicorn.Server):
    """Uvicorn that drains before it closes its port, and reads model and keys anew at SIGHUP."""

    def __init__(self, settings: Settings) -> None:
        self.exit_code = 0
        self._drain_seconds = settings.drain_seconds
        app = create_app(settings, self._exit_process)
        self._service: Service = app.state.service
        self._keys: AccessKeys = app.state.keys
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalled = -math.inf
        config = uvicorn.Config(
            app,
            http=self._protocol(),
            ws="none",
            headers=_HEADERS,
            forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", _PROXIES),
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
            server_header=False,
            access_log=False,
            log_config=None,
        )
        super().__init__(config)

    def _protocol(self) -> type[BoundedProtocol]:
        class Counted(BoundedProtocol):
            count_refused = staticmethod(self._service.metrics.count_refused)

        return Counted

    def serve_until_signal(self, listener: socket.socket) -> int:
        """Serves the open port; returns the exit code."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        gc.set_threshold(_GARBAGE_THRESHOLD)
        self.run(sockets=[listener])
        return self.exit_code

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes connections."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._begin, self._reload)
        self._read_keys()  # once more: a SIGHUP until here was ignored
        await super().startup(sockets)
        if sockets and not is_worker():
            _log.info("running on %s (SIGTERM ends it)", url_of(sockets[0]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what is under way; with the process, where a checkpoint is still being loaded."""
        # Asked again when the application has ended, which gives up what is loaded at the start.
        is_loading = self._service.switching.locked()
        await super().shutdown(sockets)
        if is_loading or self._service.switching.locked():
            # Python would wait for the thread that loads, however long: it may be a download.
            logging.shutdown()
            os._exit(self.exit_code)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains and ends at the first signal; ends at once at the second.

        What a worker gets twice within a second is one signal.
        """
        is_same = is_worker() and monotonic() < self._signalled + _SAME_SIGNAL_SECONDS
        self._signalled = monotonic()
        # Not uvicorn's own handler, which would raise the signal again instead of exit code 0.
        if self._service.draining and not is_same:
            self.should_exit = self.force_exit = True
        self._service.draining = True
        # The signal may come before ``startup``, but not before the loop runs.
        asyncio.get_running_loop().call_soon_threadsafe(self._begin, self._drain)

    def _exit_process(self, code: int) -> None:
        self.exit_code = code
        self.should_exit = True

    def _begin(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        end = monotonic() + self._drain_seconds
        # Kept connections would hold clients to an instance that refuses them, and a request that
        # comes as one is closed would be lost. Uvicorn makes its list of these once a second.
        closes = (b"connection", b"close")
        self.config.encoded_headers = [closes]
        said = self.server_state.default_headers
        self.server_state.default_headers = [h for h in said if h[0] != closes[0]] + [closes]
        await asyncio.sleep(_NOTICE_SECONDS)
        await self._service.drain()
        # The rest is for replies on their way and for bodies that come slowly.
        self.config.timeout_graceful_shutdown = max(1, round(end - monotonic()))
        self.should_exit = True

    async def _reload(self) -> None:
        self._read_keys()
        with contextlib.suppress(ReloadFailed):  # it has been logged, and the old model stays
            await self._service.reload()

    def _read_keys(self) -> None:
        try:
            self._keys.read()
        except KeysError as error:
            _log.error("access keys not read", extra={"reason": str(error)})
        else:
            if self._keys:
                _log.info("access keys read", extra={"keys": len(self._keys)})
