"""The service that benchmarks start."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from benchmarks.server import Running, wait_for_workers


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
