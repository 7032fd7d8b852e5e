"""spamgate and its peers in turn, on one checkpoint folder, under the same load.

    python -m benchmarks.peers FOLDER --peers-python VENV/bin/python

The peers live in a virtual environment of their own:

    python3 -m venv VENV
    VENV/bin/pip install torch "infinity-emb[torch,server]" "optimum>=2" \\
        litserve bentoml "ray[serve]"

One core for the server, the other for the client; no cache, the same texts in the same order with
four words of each load behind them, the same few requests to warm up. Closed loop of one-text
clients, then for spamgate open loop at shares of what the closed loop reached. A shared machine
changes its pace within minutes, so the model runs in a bare loop on the server's core before and
after, and all servers once more with 64 clients in the opposite order; means are compared. The
peers compute in float32, as on a CPU they do unless told otherwise, and where the processor has
bfloat16, those that take a number format in that, too. Where FOLDER does not exist, it gets 124M
random weights. Writes results/peers.json and prints it as the last line; --resume leaves out what
the file has, where it was measured on the same machine, code and weights by loads of the same
lengths.
"""

import argparse
import json
import os
import secrets
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bare_model
from benchmarks.environment import describe
from benchmarks.random_weights import save_random_classifier
from benchmarks.server import Running, free_port, spamgate, started
from model.checkpoint import hash_files
from model.folders import write_json

RESULT = Path(__file__).parent / "results" / "peers.json"
SERVER_CORE, CLIENT_CORE = "0", "1"
OPEN_LOOP_SHARES = (0.5, 0.8, 1.2)
OWN_CLIENTS = 512
"""What spamgate is loaded with beyond the others: of a slow peer it would take minutes."""
COMPARED_CLIENTS = 64
OWN = "spamgate"
PEER_DTYPES = ("float32", "bfloat16")
WARM_UP = ("--clients", "4", "--seconds", "3")
COMPARED_WITH = (
    *("hardware", "commit", "checkpoint_sha256", "versions", "peers"),
    *("clients", "seconds", "drain_seconds"),
)
"""What must be alike where a run is gone on with."""


@dataclass(frozen=True)
class Contender:
    """A server under test: how it is started, and how it is asked."""

    name: str
    command: list[str]
    path: str = "/classify"
    body: str = '{"texts": [TEXT]}'
    dtype: str = "float32"
    """Number format of the model."""
    health: str = "/health"
    """What answers 200 once it serves."""

    @property
    def is_own(self) -> bool:
        """Whether the server is spamgate."""
        return self.name.startswith(OWN)


def contenders(folder: str, python: str, port: int) -> list[Contender]:
    """All of them, each to listen on this port."""
    own = ["--checkpoint", folder, "--device", "cpu", "--threads", "1", "--cache-bytes", "0"]
    own += ["--timeout-seconds", "600", "--log-level", "warning"]
    return [
        *(
            Contender(f"{OWN} {dtype}", spamgate(port, *own, "--dtype", dtype), dtype=dtype)
            for dtype in bare_model.DTYPES
        ),
        *(peer for dtype in PEER_DTYPES for peer in _peers(folder, python, port, dtype)),
        Contender(
            "fastapi + pipeline", [python, "-m", "benchmarks.peer_pipeline", folder, str(port)]
        ),
    ]


def _peers(folder: str, python: str, port: int, dtype: str) -> list[Contender]:
    """Those that take a number format, in this one."""
    scripts = Path(python).parent
    infinity = [str(scripts / "infinity_emb"), "v2", "--model-id", folder]
    infinity += ["--served-model-name", "m", "--engine", "torch", "--device", "cpu"]
    infinity += ["--host", "127.0.0.1", "--port", str(port), "--dtype", dtype]
    infinity += ["--no-bettertransformer", "--no-vector-disk-cache", "--log-level", "warning"]
    # The others batch 64, too; every contender is warmed up by the same requests.
    infinity += ["--batch-size", "64", "--no-model-warmup"]
    litserve = [python, "-m", "benchmarks.peer_litserve", folder, str(port), dtype]
    bentoml = [str(scripts / "bentoml"), "serve", "benchmarks.peer_bentoml:Spam"]
    bentoml += ["--host", "127.0.0.1", "--port", str(port)]
    bentoml += ["--arg", f"folder={folder}", "--arg", f"dtype={dtype}"]
    ray = [python, "-m", "benchmarks.peer_ray", folder, str(port), dtype]
    suffix = "" if dtype == "float32" else f" {dtype}"
    text = '{"text": TEXT}'
    return [
        Contender(
            f"infinity{suffix}", infinity, body='{"model": "m", "input": [TEXT]}', dtype=dtype
        ),
        Contender(f"litserve{suffix}", litserve, path="/predict", body=text, dtype=dtype),
        Contender(f"bentoml{suffix}", bentoml, dtype=dtype, health="/readyz"),
        Contender(f"ray{suffix}", ray, body=text, dtype=dtype),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="checkpoint folder in transformers form")
    parser.add_argument("--peers-python", required=True, help="interpreter of the peers' venv")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument(
        "--drain-seconds", type=float, default=45, help="of each load, at most, for late replies"
    )
    parser.add_argument("--only", nargs="+", help="names of the contenders to run")
    parser.add_argument("--resume", action="store_true", help="keep what the result file has")
    parser.add_argument("--out", type=Path, default=RESULT)
    with in_environment():
        measure_all(parser.parse_args())


@contextmanager
def in_environment() -> Iterator[None]:
    """What is started from here on has the environment below, and a folder for what it writes."""
    with tempfile.TemporaryDirectory(prefix="spamgate-") as scratch:
        os.environ |= environment(scratch)
        yield


def environment(scratch: str) -> dict[str, str]:
    """What every server is told: one thread, tell nobody, listen on loopback, write only here."""
    return {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": scratch,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": scratch,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or it listens everywhere, on Linux too
        "RAY_AUTH_TOKEN": secrets.token_hex(),  # or it writes one into the home folder
    }


def measure_all(arguments: argparse.Namespace) -> None:
    """Every contender that is asked for, then in the opposite order again."""
    if not Path(arguments.folder).exists():
        save_random_classifier(Path(arguments.folder))
    result: dict = {"servers": {}}
    now = circumstances(arguments)
    if arguments.resume and arguments.out.exists():
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
        refuse_other(result, now)
    result |= now
    port = free_port()
    wanted = [
        contender
        for contender in contenders(arguments.folder, arguments.peers_python, port)
        if not arguments.only or contender.name in arguments.only
    ]
    for contender in wanted:
        if contender.name not in result["servers"]:
            print(f"{contender.name} ...", file=sys.stderr, flush=True)
            result["servers"][contender.name] = measure(contender, port, arguments)
            write(result, arguments.out)
    for contender in reversed(wanted):
        figures = result["servers"][contender.name]
        if "closed_loop" in figures and "again" not in figures:
            print(f"{contender.name} again ...", file=sys.stderr, flush=True)
            figures["again"] = measure_again(contender, port, arguments)
            write(result, arguments.out)
    print(json.dumps(result))


def refuse_other(result: dict, now: dict) -> None:
    """Ends a run that would go on with figures of another machine, code, checkpoint or load."""
    for key in COMPARED_WITH:
        if result.get(key) != now[key]:
            sys.exit(
                f"{key} was {result.get(key)}, and is {now[key]}: start anew, without --resume"
            )


def circumstances(arguments: argparse.Namespace) -> dict:
    """What is measured, and on what."""
    return {
        "checkpoint": Path(arguments.folder).name,
        "checkpoint_sha256": hash_files(Path(arguments.folder)),
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "drain_seconds": arguments.drain_seconds,
        **describe("benchmarks.peers", arguments=command_arguments(arguments)),
        "peers": peer_versions(arguments.peers_python),
    }


def write(result: dict, out: Path) -> None:
    """Puts what is there so far into the file."""
    result["summary"] = summary(result["servers"])
    write_json(out, result)


def command_arguments(arguments: argparse.Namespace) -> str:
    """What was asked, without this machine's paths."""
    asked = ["FOLDER --peers-python VENV/bin/python", "--clients", *map(str, arguments.clients)]
    asked += [f"--seconds {arguments.seconds:g} --drain-seconds {arguments.drain_seconds:g}"]
    asked += ["--only", shlex.join(arguments.only)] if arguments.only else []
    asked += ["--resume"] if arguments.resume else []
    return " ".join(asked)


def measure(contender: Contender, port: int, arguments: argparse.Namespace) -> dict:
    """Closed loop at each number of clients; for our own servers open and bare loop as well."""
    reason = bare_model.missing(contender.dtype)
    if reason:
        return {"left_out": reason}
    figures: dict = {}
    if contender.is_own:
        figures["bare_model"] = bare_loop(contender.dtype, arguments)
    try:
        with serving(contender, port) as server:
            figures["startup_seconds"] = round(server.startup_seconds, 2)
            figures |= loads(contender, server.url + contender.path, arguments)
    except RuntimeError as error:
        return figures | {"failed": str(error)}
    if contender.is_own:
        figures["bare_model_after"] = bare_loop(contender.dtype, arguments)
    return figures


def measure_again(contender: Contender, port: int, arguments: argparse.Namespace) -> dict:
    """The compared load once more, on a server started anew."""
    try:
        with serving(contender, port) as server:
            url = server.url + contender.path
            load(contender, url, *WARM_UP)
            clients = ("--clients", str(COMPARED_CLIENTS))
            return load(contender, url, *clients, *_durations(arguments))
    except RuntimeError as error:
        return {"failed": str(error)}


def serving(contender: Contender, port: int) -> AbstractContextManager[Running]:
    """The server on its core while the block runs.

    Raises:
        RuntimeError: as for ``started``.
    """
    command = ["taskset", "--cpu-list", SERVER_CORE, *contender.command]
    return started(command, port, health=contender.health)


def loads(contender: Contender, url: str, arguments: argparse.Namespace) -> dict:
    """All loads on a server that is up."""
    seconds = _durations(arguments)
    load(contender, url, *WARM_UP)
    clients = [*arguments.clients, OWN_CLIENTS] if contender.is_own else arguments.clients
    closed = {str(n): load(contender, url, "--clients", str(n), *seconds) for n in clients}
    figures = {"closed_loop": closed}
    if contender.is_own:
        capacity = max(run.get("ok_per_second", 0.0) for run in closed.values())
        flags = (*seconds, "--header", "X-Timeout-Ms: 5000")
        figures["open_loop"] = {
            f"{share:.0%}": load(contender, url, "--rate", str(share * capacity), *flags)
            for share in OPEN_LOOP_SHARES
        }
    return figures


def _durations(arguments: argparse.Namespace) -> tuple[str, ...]:
    return "--seconds", str(arguments.seconds), "--drain-seconds", str(arguments.drain_seconds)


def bare_loop(dtype: str, arguments: argparse.Namespace) -> dict:
    """The model alone over the same texts, on the server's core."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [
            *("taskset", "--cpu-list", SERVER_CORE, sys.executable, "-m", "benchmarks.bare_model"),
            *(arguments.folder, "--dtypes", dtype, "--compared", "0"),
            *("--seconds", str(arguments.seconds / 3), "--out", file.name),
        ]
        output = subprocess.check_output(command, text=True)
    figures: dict = json.loads(output.splitlines()[-1])[dtype]
    return figures


def summary(servers: dict[str, dict]) -> dict:
    """What the measurement is for: us against the best peer, and against the model alone.

    The best peer is one in float32, which all compute in; beside it stands the best of any format.
    """

    def reached(name: str, clients: int) -> float | None:
        run = servers[name].get("closed_loop", {}).get(str(clients), {})
        rate: float | None = run.get("ok_per_second")
        return rate

    rates = {name: rate for name in servers if (rate := compared(servers[name]))}
    own = {name: rate for name, rate in rates.items() if name.startswith(OWN)}
    peers = {name: rate for name, rate in rates.items() if name not in own}
    exact = {name: rate for name, rate in peers.items() if not name.endswith("bfloat16")}
    result: dict = {"clients": COMPARED_CLIENTS, "texts_per_second": rates}
    if own and exact:
        for key, rivals in (("best_peer", exact), ("best_peer_of_any_format", peers)):
            best = max(rivals, key=rivals.__getitem__)
            result[key] = best
            result[f"times_{key}"] = {name: round(own[name] / rivals[best], 2) for name in own}
        result["fastest"] = max(own, key=own.__getitem__)
    for name in own:
        rate = reached(name, COMPARED_CLIENTS)
        if rate is None:  # of the second round alone, as with other --clients
            continue
        share = rate / bare_texts_per_second(servers[name])
        result.setdefault("share_of_bare_model", {})[name] = round(share, 3)
        most = reached(name, OWN_CLIENTS)
        if most:
            key = f"{OWN_CLIENTS}_clients_over_{COMPARED_CLIENTS}"
            result.setdefault(key, {})[name] = round(most / rate, 3)
    return result


def compared(server: dict) -> float | None:
    """Texts a second of the compared number of clients: the mean of both rounds."""
    runs = [server.get("closed_loop", {}).get(str(COMPARED_CLIENTS), {}), server.get("again", {})]
    rates = [run["ok_per_second"] for run in runs if "ok_per_second" in run]
    return round(statistics.mean(rates), 1) if rates else None


def bare_texts_per_second(server: dict) -> float:
    """The model alone: the mean of before and after, at the size of batch where it is highest."""
    runs = [server[key]["texts_per_second"] for key in ("bare_model", "bare_model_after")]
    rates: list[float] = [statistics.mean(run[size] for run in runs) for size in runs[0]]
    return max(rates)


def load(contender: Contender, url: str, *flags: str) -> dict:
    """One run of the load generator on the client's core; its last line."""
    command = load_command(contender, url, *flags)
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    if not output:
        return {"failed": "the load generator found no server"}
    outcome: dict = json.loads(output.splitlines()[-1])
    if broken := outcome["statuses"].get("0"):
        return {"failed": f"{broken} connections broke or were refused", "outcome": outcome}
    return outcome


def load_command(contender: Contender, url: str, *flags: str) -> list[str]:
    """The load generator on the client's core."""
    return [
        *("taskset", "--cpu-list", CLIENT_CORE, sys.executable, "-m", "benchmarks.http_load"),
        *(url, "--body", contender.body, "--fresh", *flags),
    ]


def peer_versions(python: str) -> dict:
    """Versions of what is installed in the peers' environment."""
    code = (
        "import json, importlib.metadata as m; print(json.dumps("
        "{d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
    )
    found: dict = json.loads(subprocess.check_output([python, "-c", code], text=True))
    wanted = ("infinity-emb", "litserve", "bentoml", "ray", "transformers", "torch", "fastapi")
    return {name: found[name] for name in wanted if name in found}


if __name__ == "__main__":
    main()
