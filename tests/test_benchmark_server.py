"""The service that benchmarks start."""

import os
import select
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from benchmarks.server import Running, free_port, started, wait_for_workers

# A server whose worker, in a session of its own, outlives it and holds a pipe open.
LEAVES_A_WORKER = """
import http.server, os, subprocess, sys

pipe = os.open(sys.argv[2], os.O_WRONLY)
subprocess.Popen(["sleep", "60"], pass_fds=[pipe], start_new_session=True)
os.close(pipe)


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_what_a_server_has_started_ends_with_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    port = free_port()
    command = [sys.executable, "-c", LEAVES_A_WORKER, str(port), str(tmp_path / "pipe")]
    with started(command, port):
        assert not select.select([pipe], [], [], 0)[0]
    assert select.select([pipe], [], [], 10)[0], "the worker still runs"
    os.close(pipe)


def test_workers_are_waited_for_until_all_are_ready() -> None:
    """Else those that are ready first would keep every connection of a load."""
    ready = [1, 2, 4]
    seen: list[int] = []

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/metrics"
            seen.append(ready[len(seen)])
            body = f"# TYPE spamgate_ready gauge\nspamgate_ready {seen[-1]}.0\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        wait_for_workers(Running(url, pid=0, startup_seconds=0.0), 4)
        server.shutdown()
        thread.join()
    assert seen == ready
