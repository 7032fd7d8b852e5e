"""How long a single text waits while another client sends lists of a thousand.

    python -m benchmarks.lists FOLDER --peers-python VENV/bin/python

The servers of ``benchmarks.peers`` that take lists, in float32, one core for the server and one for
the clients: single texts at random times, first alone, then beside the lists. Without
--peers-python spamgate alone. Writes results/lists.json and prints it as the last line.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.environment import describe, write_result
from benchmarks.peers import (
    OWN,
    WARM_UP,
    Contender,
    contenders,
    in_environment,
    load,
    load_command,
    serving,
)
from benchmarks.server import free_port

RESULT = Path(__file__).parent / "results" / "lists.json"
TAKE_LISTS = (f"{OWN} float32", "infinity", "bentoml")
TEXTS_PER_LIST = 1000
RATE = 5.0
"""Single texts a second, far less than any server can do alone."""
HEAD_START = 5.0


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
    """Single texts alone, then beside the lists; and what became of those."""
    singles = ("--rate", str(RATE), "--seconds", str(seconds))
    with serving(contender, port) as server:
        url = server.url + contender.path
        load(contender, url, *WARM_UP)
        alone = load(contender, url, *singles)
        flags = ("--texts-per-request", str(TEXTS_PER_LIST), "--seconds", str(seconds + HEAD_START))
        command = load_command(contender, url, *flags)
        lists = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(HEAD_START)  # both clients share a core, and this one is about to start
        beside = load(contender, url, *singles)
        output, _ = lists.communicate()
    return {"alone": alone, "beside_lists": beside, "lists": json.loads(output.splitlines()[-1])}


if __name__ == "__main__":
    main()
