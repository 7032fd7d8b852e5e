"""Load on one HTTP endpoint, closed or open loop, from one thread with little work per request.

    python -m benchmarks.http_load http://127.0.0.1:8000/classify --clients 64 --seconds 10

Closed loop: each client sends its next request when the reply has come. Open loop (--rate):
requests start at random (Poisson) times whatever the replies do, and latency counts from that
planned time, so that a stalled server cannot hide its stall. The last line printed is JSON.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.texts import load_texts, own_words

_OPEN_LOOP_CONNECTIONS = 1024
_PAUSE_SECONDS = 0.1  # after a connection that broke, or was refused
DRAIN_SECONDS = 60.0
"""How long the replies under way at the end are waited for."""


class Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection; one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._reply: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def usable(self) -> bool:
        """Whether the next request can go out here."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[int]:
        """Sends a whole request; the future gives the status, 0 where the connection broke."""
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._reply

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._received[:head_end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        end = head_end + 4 + length
        if len(self._received) < end:
            return
        self.body = bytes(self._received[head_end + 4 : end])
        del self._received[:end]
        if b"connection: close" in head:
            self.close()
        self._finish(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _finish(self, status: int) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(status)


@dataclass
class Target:
    """Where requests go and what they look like.

    Attributes:
        url: of the endpoint.
        body: of a request, TEXT standing for the JSON string of a text.
        headers: further header lines.
    """

    url: str
    body: str = '{"texts": [TEXT]}'
    headers: tuple[str, ...] = ()

    def request(self, texts: list[str]) -> bytes:
        """The bytes of one request for these texts."""
        parts = urlsplit(self.url)
        body = self.body.replace("TEXT", ", ".join(map(json.dumps, texts))).encode()
        lines = [
            f"POST {parts.path or '/'} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *self.headers,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    async def usable(self, connection: Connection) -> Connection:
        """The same, or a new one where no request can go out there.

        Raises:
            OSError: there is no server.
        """
        return connection if connection.usable else await self.connect()

    async def connect(self) -> Connection:
        parts = urlsplit(self.url)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            Connection, parts.hostname or "127.0.0.1", parts.port or 80
        )
        return connection


@dataclass
class Outcome:
    """What came back, and how late.

    Attributes:
        statuses: status -> number of replies; 0 where a connection broke, or was refused.
        latencies: seconds of each 200.
        seconds: from the start to the last reply, and at least as long as requests were sent.
        unfinished: requests given up, with no reply.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    unfinished: int = 0

    def add(self, status: int, latency: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.latencies.append(latency)

    def summary(self) -> dict[str, object]:
        """Rates, counts, and percentiles: the least latency that such a share of replies keeps."""
        ordered = sorted(self.latencies)

        def percentile_ms(share: float) -> float | None:
            if not ordered:
                return None
            return round(1000 * ordered[math.ceil(share * len(ordered)) - 1], 2)

        return {
            "ok_per_second": round(self.statuses[200] / self.seconds, 1),
            "p50_ms": percentile_ms(0.5),
            "p99_ms": percentile_ms(0.99),
            "p99.9_ms": percentile_ms(0.999),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "unfinished": self.unfinished,
            "seconds": round(self.seconds, 2),
        }


async def closed_loop(
    target: Target,
    requests: Iterator[bytes],
    clients: int,
    seconds: float,
    drain_seconds: float = DRAIN_SECONDS,
) -> Outcome:
    """``clients`` connections, each with one request under way until the time is over.

    Replies under way then still count, and their time with them: a server that answers in large
    batches would look slow without. What takes longer than ``drain_seconds`` is given up.
    """
    outcome = Outcome()
    start = time.perf_counter()

    async def client() -> None:
        connection = Connection()
        try:
            while (sent := time.perf_counter()) < start + seconds:
                try:
                    connection = await target.usable(connection)
                    status = await connection.send(next(requests))
                except OSError:
                    status = 0
                if not status:
                    await asyncio.sleep(_PAUSE_SECONDS)
                outcome.add(status, time.perf_counter() - sent)
                outcome.seconds = time.perf_counter() - start
        finally:
            connection.close()

    tasks = {asyncio.create_task(client()) for _ in range(clients)}
    outcome.unfinished = await _give_up_after(seconds + drain_seconds, tasks)
    outcome.seconds = max(outcome.seconds, seconds)
    return outcome


async def _give_up_after(seconds: float, tasks: set[asyncio.Task[None]]) -> int:
    """Waits for the tasks, so long at most; how many of them were cancelled then."""
    done, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()
    return len(late)


async def open_loop(
    target: Target,
    requests: Iterator[bytes],
    rate: float,
    seconds: float,
    drain_seconds: float = DRAIN_SECONDS,
) -> Outcome:
    """Requests at Poisson times, ``rate`` a second on average; each on a free connection.

    What is not answered ``drain_seconds`` after the last was sent is given up.
    """
    outcome = Outcome()
    rng = random.Random(0)
    idle: list[Connection] = []
    limit = asyncio.Semaphore(_OPEN_LOOP_CONNECTIONS)

    async def one(planned: float) -> None:
        async with limit:
            connection = idle.pop() if idle else Connection()
            try:
                connection = await target.usable(connection)
                status = await connection.send(next(requests))
            except OSError:
                status = 0
            except asyncio.CancelledError:
                connection.close()
                raise
            outcome.add(status, time.perf_counter() - planned)
            outcome.seconds = time.perf_counter() - start
            idle.append(connection)

    start = planned = time.perf_counter()
    tasks = set()
    while planned < start + seconds:
        planned += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        tasks.add(asyncio.create_task(one(planned)))
    outcome.unfinished = await _give_up_after(drain_seconds, tasks)
    outcome.seconds = max(outcome.seconds, seconds)
    for connection in idle:
        connection.close()
    return outcome


def cycle_requests(
    target: Target, texts: list[str], texts_per_request: int, variant: Callable[[int], str]
) -> Iterator[bytes]:
    """Requests over the texts, round after round; ``variant`` gives each round its own suffix."""
    number = 0
    while True:
        for start in range(0, len(texts) - texts_per_request + 1, texts_per_request):
            chunk = texts[start : start + texts_per_request]
            yield target.request([text + variant(number) for text in chunk])
        number += 1


def fresh_requests(target: Target, texts: list[str], texts_per_request: int) -> Iterator[bytes]:
    """Requests over the texts, none of which is sent twice, by this run or another."""
    words = own_words()
    return cycle_requests(target, texts, texts_per_request, lambda number: f" {words} {number}")


async def is_answered(target: Target) -> bool:
    """Whether a reply says how likely something is: a number from 0 to 1 that is neither."""
    connection = Connection()
    try:
        connection = await target.connect()
        async with asyncio.timeout(DRAIN_SECONDS):
            status = await connection.send(target.request(["Are you there, and is this read?"]))
        value = json.loads(connection.body) if status == 200 else None
    except (OSError, ValueError):
        return False
    finally:
        connection.close()
    return _holds_probability(value)


def _holds_probability(value: object) -> bool:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return any(map(_holds_probability, parts))
    return isinstance(value, float) and 0 < value < 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--body", default=Target.body, help="request body with TEXT in it")
    parser.add_argument("--header", action="append", default=[], help="a further header line")
    parser.add_argument("--clients", type=int, default=1, help="closed loop: connections")
    parser.add_argument("--rate", type=float, help="open loop: requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument(
        "--drain-seconds", type=float, default=DRAIN_SECONDS, help="at the end, for late replies"
    )
    parser.add_argument("--texts-per-request", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="never send a text a second time")
    parser.add_argument(
        "--no-probe", action="store_true", help="do not ask first whether a server is there"
    )
    arguments = parser.parse_args()
    if arguments.seconds <= 0 or arguments.clients < 1:
        parser.error("--seconds must be above 0, and --clients 1 or more")
    target = Target(arguments.url, arguments.body, tuple(arguments.header))
    texts, description = load_texts()
    if arguments.texts_per_request > len(texts):
        sys.exit(f"there are {len(texts)} texts: --texts-per-request may be no more")
    if arguments.fresh:
        requests = fresh_requests(target, texts, arguments.texts_per_request)
    else:
        requests = cycle_requests(target, texts, arguments.texts_per_request, lambda _: "")
    if not arguments.no_probe and not asyncio.run(is_answered(target)):
        sys.exit("no server there answers a text with a probability")
    durations = arguments.seconds, arguments.drain_seconds
    if arguments.rate:
        run = open_loop(target, requests, arguments.rate, *durations)
    else:
        run = closed_loop(target, requests, arguments.clients, *durations)
    outcome = asyncio.run(run)
    result = {
        "clients": None if arguments.rate else arguments.clients,
        "rate": arguments.rate,
        "texts_per_request": arguments.texts_per_request,
        **outcome.summary(),
        "texts": description,
    }
    print(json.dumps(result))
    if not outcome.statuses[200]:
        sys.exit("no request was answered with 200")


if __name__ == "__main__":
    main()
