"""Real mail programs and the real service: started on free loopback ports, ended by their pid."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch

from benchmarks.server import free_port
from model.checkpoint import save_classifier
from model.packing import pack
from model.tokenizer import encode
from tests.conftest import HAM, SPAM, tiny_classifier_model

STEPS = 60


def mail(text: str, subject: str) -> bytes:
    """A message with the fields that mail programs ask for."""
    fields = [
        "Received: from mail.example.org ([192.0.2.1]) by mx.example.net; "
        "Tue, 3 Nov 2026 10:00:00 +0000",
        "From: Sender <sender@example.org>",
        "To: reader@example.net",
        f"Subject: {subject}",
        "Date: Tue, 3 Nov 2026 10:00:00 +0000",
        "Message-ID: <1@example.org>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ]
    return ("\r\n".join(fields) + f"\r\n\r\n{text}\r\n").encode()


SPAM_MAIL = mail(SPAM, "Winner")
HAM_MAIL = mail(HAM, "Dinner")


def save_decided_classifier(folder: Path) -> Path:
    """A tiny checkpoint that is sure of the two messages of these tests, whoever words them."""
    model = tiny_classifier_model(0).train()
    texts = [form.format(text=text) for text in (HAM, SPAM) for form in FORMS]
    labels = torch.tensor([0] * len(FORMS) + [1] * len(FORMS))
    batch = pack([encode(text, 1024)[0] for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(model(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder.mkdir()
    save_classifier(folder, model.eval(), read_token="last")
    return folder


# As the text stands alone, under a subject, and as mail programs change it on the way.
FORMS = (
    "{text}",
    "Winner\n\n{text}",
    "Dinner\n\n{text}",
    "Winner {text}",
    "Dinner {text}",
    "Hello\n\n{text}\n",
)


def require(*programs: str) -> None:
    """Skips the test where one of these is not installed."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in programs:
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{program} is not installed")


def wait_until(is_true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen in {seconds} s")
        time.sleep(0.05)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def process(
    command: Sequence[object],
    log: Path,
    *,
    port: int | None = None,
    seconds: float = 60,
    **options: object,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in its own process group until the block ends, once it listens on ``port``."""
    with log.open("ab") as output:
        started = subprocess.Popen(  # type: ignore[call-overload]
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        if port:

            def is_up() -> bool:
                if started.poll() is not None:
                    raise RuntimeError(f"{command[0]} ended: {log.read_text(errors='replace')}")
                return listens(port)

            wait_until(is_up, f"{command[0]} on port {port}", seconds)
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(10)


@contextlib.contextmanager
def spamgate(checkpoint: Path, log: Path, **settings: object) -> Iterator[int]:
    """The real service; its port."""
    port = free_port()
    environment = {f"SPAMGATE_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "app", "--port", str(port), "--checkpoint", checkpoint]
    with process([*command, "--device", "cpu"], log, port=port, env={**os.environ, **environment}):
        wait_until(lambda: _is_ready(port), "readiness")
        yield port


@contextlib.contextmanager
def spamd(service_port: int, log: Path, *options: str) -> Iterator[int]:
    """The real spamd listener; its port."""
    port = free_port()
    command = [sys.executable, "-m", "app.spamd", "--port", str(port)]
    command += ["--url", f"http://127.0.0.1:{service_port}", *options]
    with process(command, log, port=port):
        yield port


@contextlib.contextmanager
def stuck_service() -> Iterator[int]:
    """A service that takes requests and does not answer; its port."""
    released = threading.Event()

    class Stuck(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            released.wait(120)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stuck)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        released.set()
        server.shutdown()
        server.server_close()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/readyz") as reply:
        return bool(reply.status == 200)
    return False
