"""spamgate and its peers in turn, on one checkpoint folder, under the same load.

    python -m benchmarks.peers FOLDER --peers-python VENV/bin/python

The peers live in a virtual environment of their own:

    python3 -m venv VENV && VENV/bin/pip install "infinity-emb[torch,server]" litserve

One core for the server, the other for the client. Closed loop of one-text clients, then for
spamgate open loop at shares of what the closed loop reached. Writes results/peers.json and prints
it as the last line; --resume leaves out what the file already has.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.environment import describe
from benchmarks.server import free_port, spamgate, started

RESULT = Path(__file__).parent / "results" / "peers.json"
SERVER_CORE, CLIENT_CORE = "0", "1"
OPEN_LOOP_SHARES = (0.5, 0.8, 1.2)


@dataclass(frozen=True)
class Contender:
    """A server under test: how it is started, and how it is asked."""

    name: str
    command: list[str]
    path: str = "/classify"
    body: str = '{"texts": [TEXT]}'


def contenders(folder: str, python: str, port: int) -> list[Contender]:
    """All of them, each to listen on this port."""
    own = ["--checkpoint", folder, "--device", "cpu", "--threads", "1", "--cache-bytes", "0"]
    own += ["--timeout-seconds", "600", "--log-level", "warning"]
    infinity = [str(Path(python).parent / "infinity_emb"), "v2", "--model-id", folder]
    infinity += ["--served-model-name", "m", "--engine", "torch", "--device", "cpu"]
    infinity += ["--dtype", "float32", "--port", str(port), "--no-bettertransformer"]
    infinity += ["--no-model-warmup"]  # every contender is warmed up by the same requests
    return [
        Contender("spamgate float32", spamgate(port, *own, "--dtype", "float32")),
        Contender("spamgate int8", spamgate(port, *own, "--dtype", "int8")),
        Contender("infinity", infinity, body='{"model": "m", "input": [TEXT]}'),
        Contender(
            "litserve",
            [python, "-m", "benchmarks.peer_litserve", folder, str(port)],
            path="/predict",
            body='{"text": TEXT}',
        ),
        Contender(
            "fastapi + pipeline", [python, "-m", "benchmarks.peer_pipeline", folder, str(port)]
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="checkpoint folder in transformers form")
    parser.add_argument("--peers-python", required=True, help="interpreter of the peers' venv")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--only", nargs="+", help="names of the contenders to run")
    parser.add_argument("--resume", action="store_true", help="keep what the result file has")
    arguments = parser.parse_args()
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }
    result: dict = {"servers": {}}
    if arguments.resume and RESULT.exists():
        result = json.loads(RESULT.read_text(encoding="utf-8"))
    port = free_port()
    for contender in contenders(arguments.folder, arguments.peers_python, port):
        wanted = not arguments.only or contender.name in arguments.only
        if wanted and contender.name not in result["servers"]:
            print(f"{contender.name} ...", file=sys.stderr, flush=True)
            result["servers"][contender.name] = measure(contender, port, arguments)
            result |= {"checkpoint": Path(arguments.folder).name, **describe("benchmarks.peers")}
            result["peers"] = peer_versions(arguments.peers_python)
            result["transformers_here"] = version("transformers")
            RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def measure(contender: Contender, port: int, arguments: argparse.Namespace) -> dict:
    """Closed loop at each number of clients; for our own servers open loop as well."""
    command = ["taskset", "--cpu-list", SERVER_CORE, *contender.command]
    with started(command, port) as server:
        url = server.url + contender.path
        load(contender, url, "--clients", "4", "--seconds", "3")  # warms up
        closed = {
            str(n): load(contender, url, "--clients", str(n), "--seconds", str(arguments.seconds))
            for n in arguments.clients
        }
        figures: dict = {"startup_seconds": round(server.startup_seconds, 2), "closed_loop": closed}
        if contender.name.startswith("spamgate"):
            capacity = max(run["ok_per_second"] for run in closed.values())
            figures["open_loop"] = {
                f"{share:.0%}": load(
                    contender,
                    url,
                    "--rate",
                    str(share * capacity),
                    "--seconds",
                    str(arguments.seconds),
                    "--header",
                    "X-Timeout-Ms: 5000",
                )
                for share in OPEN_LOOP_SHARES
            }
    return figures


def load(contender: Contender, url: str, *flags: str) -> dict:
    """One run of the load generator on the client's core; its last line."""
    command = [
        *("taskset", "--cpu-list", CLIENT_CORE, sys.executable, "-m", "benchmarks.http_load"),
        *(url, "--body", contender.body, "--fresh", *flags),
    ]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    outcome: dict = json.loads(output.splitlines()[-1])
    return outcome


def peer_versions(python: str) -> dict:
    """Versions in the peers' environment."""
    code = (
        "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in "
        "('infinity-emb', 'litserve', 'transformers', 'torch', 'fastapi')}))"
    )
    versions: dict = json.loads(subprocess.check_output([python, "-c", code], text=True))
    return versions


if __name__ == "__main__":
    main()
