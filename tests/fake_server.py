"""HTTP servers on free loopback ports, and one that always gives the same reply."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Got = list[tuple[str, dict[str, str], bytes]]
"""Of each request the path, the fields and the body."""


class QuietHandler(BaseHTTPRequestHandler):
    """Answers as its subclasses say, and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests are quiet."""


@contextmanager
def listening(handler: type[QuietHandler]) -> Iterator[str]:
    """The URL of a server that answers so."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()
            thread.join()


@contextmanager
def server(
    reply: bytes = b"", *, status: int = 200, missing: int = 0, seconds: float = 0.0
) -> Iterator[tuple[str, Got]]:
    """A server that always replies this, so many bytes short and so late; its URL, and what it
    got. Where the status is 301 it has moved, and takes what follows there."""
    got: Got = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.title(): value for name, value in self.headers.items()}
            got.append((self.path, headers, body))
            time.sleep(seconds)
            self.send_response(status)
            if status == 301:
                self.send_header("Location", "/moved")
            self.send_header("Content-Length", str(len(reply) + missing))
            self.end_headers()
            self.wfile.write(reply)

        def do_GET(self) -> None:
            got.append((self.path, dict(self.headers), b""))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with listening(Handler) as url:
        yield url, got
