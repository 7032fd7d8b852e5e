"""Resident memory of the real service over many requests, and under ten times what it can take.

    python -m benchmarks.memory [--requests N]

Cache on, no text twice. Writes results/memory.json and prints it as the last line.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import describe, resident_mib, write_result
from benchmarks.http_load import Outcome, Target, closed_loop, cycle_requests, open_loop
from benchmarks.server import ROOT, Running, free_port, spamgate, started
from benchmarks.texts import load_texts

RESULT = Path(__file__).parent / "results" / "memory.json"
CLIENTS = 64
OVERLOAD = 10
TEXTS_PER_REQUEST = 64
"""Under overload, where a request for each text would overload the client first."""
WARM_UP_SHARE = 0.25
"""Of the requests: until then the cache fills."""
SHOWN_POINTS = 20
_CHUNK_SECONDS = 5.0


@dataclass(frozen=True)
class Point:
    """Resident memory after so many requests."""

    requests: int
    mib: float


class Watch:
    """Loads on one server, its memory looked at every second meanwhile."""

    def __init__(self, pid: int) -> None:
        self.points: list[Point] = []
        self.statuses: Counter[int] = Counter()
        self._pid = pid

    async def during(self, load: Coroutine[None, None, Outcome]) -> Outcome:
        """Runs a load to its end."""
        task = asyncio.create_task(load)
        while not task.done():
            await asyncio.wait([task], timeout=1)
            self._look()
        outcome = task.result()
        self.statuses += outcome.statuses
        self._look()
        return outcome

    def _look(self) -> None:
        self.points.append(Point(self.statuses.total(), resident_mib(self._pid)))

    def summary(self, after: int = 0) -> dict[str, object]:
        """Points evenly apart, and by how much the largest passes the first of those counted."""
        counted = [point.mib for point in self.points if point.requests >= after]
        step = max(1, len(self.points) // SHOWN_POINTS)
        return {
            "requests": self.statuses.total(),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "resident_mib": [[point.requests, point.mib] for point in self.points[::step]],
            "counted_from_request": after,
            "first_mib": counted[0],
            "last_mib": counted[-1],
            "largest_mib": max(counted),
            "largest_over_first": round(max(counted) / counted[0], 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "starter"))
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--overload-seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    port = free_port()
    flags = ("--checkpoint", arguments.checkpoint, "--device", "cpu", "--log-level", "warning")
    with started(spamgate(port, *flags), port) as server:
        result = asyncio.run(measure(server, arguments.requests, arguments.overload_seconds))
    result |= {"checkpoint": Path(arguments.checkpoint).name, **describe("benchmarks.memory")}
    write_result(arguments.out, result)


async def measure(server: Running, requests: int, overload_seconds: float) -> dict[str, object]:
    """First the many requests, then the overload."""
    texts, description = load_texts()
    target = Target(f"{server.url}/classify")

    def fresh(texts_per_request: int, name: str) -> Iterator[bytes]:
        return cycle_requests(target, texts, texts_per_request, lambda n: f" {name}{n}")

    many = Watch(server.pid)
    singles = fresh(1, "single")
    while many.statuses.total() < requests:
        await many.during(closed_loop(target, singles, CLIENTS, _CHUNK_SECONDS))
    lists = fresh(TEXTS_PER_REQUEST, "full")
    full = await closed_loop(target, lists, CLIENTS // 16, _CHUNK_SECONDS)
    capacity = TEXTS_PER_REQUEST * full.statuses[200] / full.seconds
    overload = Watch(server.pid)
    rate = OVERLOAD * capacity / TEXTS_PER_REQUEST
    await overload.during(
        open_loop(target, fresh(TEXTS_PER_REQUEST, "batch"), rate, overload_seconds)
    )
    return {
        "many_requests": many.summary(after=int(WARM_UP_SHARE * requests)),
        "overload": {
            "times_capacity": OVERLOAD,
            "capacity_texts_per_second": round(capacity, 1),
            "texts_per_request": TEXTS_PER_REQUEST,
            **overload.summary(),
        },
        "texts": description,
    }


if __name__ == "__main__":
    main()
