"""How long a single text waits while another client sends lists of a thousand.

    python -m benchmarks.lists FOLDER --peers-python VENV/bin/python

The servers of ``benchmarks.peers`` that take lists, in float32, one core for the server and one for
the clients: single texts at random times, first alone, then beside the lists. Without
--peers-python spamgate alone. Writes results/lists.json and prints it as the last line.
"""

import argparse
import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from benchmarks.environment import describe, write_result
from benchmarks.http_load import Outcome, Target, closed_loop, fresh_requests
from benchmarks.peers import (
    CLIENT_CORE,
    OWN,
    WARM_UP,
    Contender,
    contenders,
    in_environment,
    load,
    serving,
)
from benchmarks.server import free_port
from benchmarks.texts import load_texts

RESULT = Path(__file__).parent / "results" / "lists.json"
TAKE_LISTS = (f"{OWN} float32", "infinity", "bentoml")
TEXTS_PER_LIST = 1000
RATE = 5.0
"""Single texts a second, far less than any server can do alone."""
HEAD_START = 5.0
"""Seconds of lists before the single texts begin."""
_LIST_SECONDS = 600.0
"""What a list may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="checkpoint folder in transformers form")
    parser.add_argument("--peers-python", help="interpreter of the peers' venv")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    arguments = parser.parse_args()
    port = free_port()
    wanted = [
        contender
        for contender in contenders(arguments.folder, arguments.peers_python or "python", port)
        if contender.name in TAKE_LISTS and (contender.is_own or arguments.peers_python)
    ]
    servers = {}
    with in_environment():
        for contender in wanted:
            print(f"{contender.name} ...", file=sys.stderr, flush=True)
            servers[contender.name] = measure(contender, port, arguments.seconds)
    peers = " --peers-python VENV/bin/python" if arguments.peers_python else ""
    asked = f"FOLDER{peers} --seconds {arguments.seconds:g}"
    result = {"servers": servers, "texts_per_list": TEXTS_PER_LIST, "rate": RATE}
    result |= {"checkpoint": Path(arguments.folder).name}
    write_result(RESULT, result | describe("benchmarks.lists", arguments=asked))


def measure(contender: Contender, port: int, seconds: float) -> dict[str, object]:
    """Single texts alone, then beside the lists; and what became of those.

    Raises:
        RuntimeError: no list was answered while single texts were sent; or as for ``serving``.
    """
    singles = ("--rate", str(RATE), "--seconds", str(seconds))
    lists, is_over = Outcome(), Event()
    with serving(contender, port) as server:
        url = server.url + contender.path
        load(contender, url, *WARM_UP)
        alone = load(contender, url, *singles)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_lists, Target(url, contender.body), lists, is_over)
            try:
                time.sleep(HEAD_START)
                before = lists.statuses[200]
                # A probe would wait for the list that is under way.
                beside = load(contender, url, *singles, "--no-probe")
            finally:
                is_over.set()
        sending.result()
    if lists.statuses[200] == before:
        raise RuntimeError(
            f"{contender.name} answered no list beside the single texts, which found it idle: "
            f"{lists.summary()}. Look at what it logs, or measure without it."
        )
    return {"alone": alone, "beside_lists": beside, "lists": lists.summary()}


def send_lists(target: Target, lists: Outcome, is_over: Event) -> None:
    """One list after the other on the client's core, the last one when it is over at the latest."""
    os.sched_setaffinity(0, {int(CLIENT_CORE)})  # of this thread alone
    requests = fresh_requests(target, load_texts()[0], TEXTS_PER_LIST)
    start = time.perf_counter()
    while not is_over.is_set():
        a_moment = closed_loop(target, requests, 1, seconds=0.01, drain_seconds=_LIST_SECONDS)
        one = asyncio.run(a_moment)
        lists.statuses += one.statuses
        lists.latencies += one.latencies
        lists.unfinished += one.unfinished
        lists.seconds = time.perf_counter() - start


if __name__ == "__main__":
    main()
