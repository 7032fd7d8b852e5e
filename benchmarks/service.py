"""The README's figures: start-up, latency, texts a second of few and many clients, memory.

    python -m benchmarks.service [--checkpoint FOLDER]

Starts the real service on a free port and asks it as one client; then as 64 at once, with one
worker and with two, client and service sharing the machine's cores. Writes results/service.json
and prints it as the last line.
"""

import argparse
import asyncio
import json
import urllib.request
from pathlib import Path

from benchmarks.environment import describe, resident_mib, write_result
from benchmarks.http_load import Target, closed_loop, cycle_requests
from benchmarks.server import ROOT, Running, free_port, spamgate, started, wait_for_workers
from benchmarks.texts import load_texts

RESULT = Path(__file__).parent / "results" / "service.json"
STARTS = 3
MANY = 64
WORKERS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "starter"))
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    arguments = parser.parse_args()
    port = free_port()
    command = spamgate(port, "--checkpoint", arguments.checkpoint)
    startups = []
    for _ in range(STARTS - 1):
        with started(command, port) as server:
            startups.append(server.startup_seconds)
    with started(command, port) as server:
        startups.append(server.startup_seconds)
        result = measure(server, arguments.seconds)
    many = {
        f"{workers} worker{'s' * (workers > 1)}": many_clients(
            [*command, "--workers", str(workers)], port, workers, arguments.seconds
        )
        for workers in WORKERS
    }
    for name, key in (
        ("texts_per_second_of_64_clients", "ok_per_second"),
        ("statuses_of_64_clients", "statuses"),
    ):
        result[name] = {workers: load[key] for workers, load in many.items()}
    result |= {"startup_seconds": round(sorted(startups)[STARTS // 2], 2)}
    result |= {"checkpoint": Path(arguments.checkpoint).name, **describe("benchmarks.service")}
    write_result(RESULT, result)


def measure(server: Running, seconds: float) -> dict[str, object]:
    """Figures of a healthy service; no text is sent twice, so that no cache can answer."""
    texts, description = load_texts()
    target = Target(f"{server.url}/classify")

    def load(texts_per_request: int, seconds: float, name: str) -> dict[str, object]:
        requests = cycle_requests(target, texts, texts_per_request, lambda n: f" {name}{n}")
        return asyncio.run(closed_loop(target, requests, clients=1, seconds=seconds)).summary()

    resident_at_start = resident_mib(server.pid)
    load(64, 2, "warm")
    batches = load(64, seconds, "batch")
    single = load(1, seconds, "single")
    return {
        "single_text": {key: single[key] for key in ("p50_ms", "p99_ms", "statuses")},
        "batches_of_64": {
            "texts_per_second": round(64 * float(str(batches["ok_per_second"])), 1),
            **{key: batches[key] for key in ("p50_ms", "p99_ms", "statuses")},
        },
        "resident_mib": {"at_start": resident_at_start, "after_load": resident_mib(server.pid)},
        "texts": description,
        **number_format(server),
    }


def number_format(server: Running) -> dict[str, object]:
    """What the service has chosen to compute in, and with how many threads."""
    with urllib.request.urlopen(f"{server.url}/info", timeout=5) as reply:
        info = json.load(reply)
    return {key: info[key] for key in ("dtype", "threads")}


def many_clients(command: list[str], port: int, workers: int, seconds: float) -> dict[str, object]:
    """The load that 64 clients of one text a request make together, no text sent twice."""
    texts, _ = load_texts()

    def load(url: str, seconds: float, name: str) -> dict[str, object]:
        target = Target(f"{url}/classify")
        requests = cycle_requests(target, texts, 1, lambda n: f" {name}{n}")
        return asyncio.run(closed_loop(target, requests, MANY, seconds)).summary()

    with started(command, port) as server:
        wait_for_workers(server, workers)
        load(server.url, 3, "warm")
        return load(server.url, seconds, "many")


if __name__ == "__main__":
    main()
