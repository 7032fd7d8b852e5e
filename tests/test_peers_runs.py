"""Every server is measured as the others are, and a run is gone on with by one of its kind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import peers
from benchmarks.server import Running

SERVER, CLIENT = (["taskset", "--cpu-list", core] for core in ("0", "1"))
CLIENTS = ("1", "64")


class Machine:
    """What would be started, in order, on a machine where every server does as well.

    Attributes:
        events: ``("start" | "stop" | "load" | "bare", command)``.
        broken: connections that break in each load.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.events: list[tuple[str, list[str]]] = []
        self.broken = 0
        self.folder = folder
        self.out = folder.parent / "peers.json"
        self._monkeypatch = monkeypatch
        patched = SimpleNamespace(
            run=self._run, check_output=self._check_output, PIPE=subprocess.PIPE
        )
        monkeypatch.setattr(peers, "subprocess", patched)
        monkeypatch.setattr(peers, "started", self._started)
        monkeypatch.setattr("benchmarks.bare_model.missing", lambda _: None)
        monkeypatch.setattr(os, "environ", {})

    def measure(self, *flags: str) -> dict:
        """The result of the command with these flags; the events are those of it alone."""
        self.events.clear()
        given = [str(self.folder), "--peers-python", "bin/python", "--seconds", "3"]
        given += ["--clients", *CLIENTS, "--out", str(self.out), *flags]
        self._monkeypatch.setattr(sys, "argv", ["peers", *given])
        peers.main()
        result: dict = json.loads(self.out.read_text())
        return result

    def commands(self, kind: str) -> list[list[str]]:
        """Those of one kind."""
        return [command for event, command in self.events if event == kind]

    @contextmanager
    def _started(self, command: list[str], port: int, *, health: str) -> Iterator[Running]:
        assert os.environ["OMP_NUM_THREADS"] == "1"
        self.events.append(("start", command))
        yield Running(f"http://127.0.0.1:{port}", 0, 1.236)
        self.events.append(("stop", command))

    def _run(self, command: list[str], **_: object) -> SimpleNamespace:
        self.events.append(("load", command))
        statuses = {"200": 9} | ({"0": self.broken} if self.broken else {})
        return SimpleNamespace(stdout=json.dumps({"ok_per_second": 30.0, "statuses": statuses}))

    def _check_output(self, command: list[str], **_: object) -> str:
        if "benchmarks.bare_model" not in command:
            return "{}"  # versions
        self.events.append(("bare", command))
        dtype = command[command.index("--dtypes") + 1]
        return json.dumps({dtype: {"texts_per_second": {"16": 20.0, "64": 40.0}}})


@pytest.fixture
def machine(save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch, save_tiny())


def test_every_server_has_one_core_and_the_client_the_other(machine: Machine) -> None:
    machine.measure()
    assert len(machine.commands("start")) == 2 * len(peers.contenders("FOLDER", "bin/python", 80))
    for kind, prefix in (("start", SERVER), ("bare", SERVER), ("load", CLIENT)):
        commands = machine.commands(kind)
        assert commands
        assert all(command[: len(prefix)] == prefix for command in commands)


def flags_of(load: list[str]) -> list[str]:
    """What a load was told behind the URL, the body and --fresh."""
    return load[load.index("--fresh") + 1 :]


def test_every_server_is_warmed_up_alike_and_then_loaded_by_as_many_clients(
    machine: Machine,
) -> None:
    machine.measure("--drain-seconds", "4")
    seen: list[list[str]] = []
    for start, (kind, command) in enumerate(machine.events):
        if kind != "start":
            continue
        stop = machine.events.index(("stop", command), start)
        warm_up, *loads = [flags_of(load) for _, load in machine.events[start + 1 : stop]]
        assert warm_up == ["--clients", "4", "--seconds", "3"]
        assert all(load[2:6] == ["--seconds", "3.0", "--drain-seconds", "4.0"] for load in loads)
        clients = [load[1] for load in loads if load[0] == "--clients"]
        most = ["512"] if "app" in command else []
        assert clients == (["64"] if command in seen else [*CLIENTS, *most])
        seen.append(command)


def test_all_are_measured_again_in_the_opposite_order(machine: Machine) -> None:
    result = machine.measure()
    starts = machine.commands("start")
    first, again = starts[: len(starts) // 2], starts[len(starts) // 2 :]
    assert again == first[::-1]
    assert len(first) == len(result["servers"])
    assert all(run["again"]["ok_per_second"] == 30 for run in result["servers"].values())
    assert all(run["startup_seconds"] == 1.24 for run in result["servers"].values())


def test_the_model_runs_alone_before_and_after_our_own_servers(machine: Machine) -> None:
    result = machine.measure()
    assert set(result["summary"]["share_of_bare_model"].values()) == {30 / 40}
    bare = [n for n, (kind, _) in enumerate(machine.events) if kind == "bare"]
    own = [name for name in result["servers"] if name.startswith("spamgate")]
    assert len(bare) == 2 * len(own)
    for before, after in zip(bare[::2], bare[1::2], strict=True):
        assert machine.events[before + 1][0] == "start"
        assert machine.events[after - 1][0] == "stop"
        assert "app" in machine.events[before + 1][1]


def test_broken_connections_are_a_failure_and_no_figure(machine: Machine) -> None:
    machine.broken = 2
    result = machine.measure("--only", "infinity", "fastapi + pipeline")
    for run in result["servers"].values():
        for outcome in (*run["closed_loop"].values(), run["again"]):
            assert outcome["failed"] == "2 connections broke or were refused"
            assert "ok_per_second" not in outcome
    assert result["summary"]["texts_per_second"] == {}


def test_all_that_batch_do_so_up_to_the_same_size() -> None:
    folder = Path(peers.__file__).parent
    scripts = (folder / f"peer_{name}.py" for name in ("litserve", "bentoml", "ray"))
    sizes = [size for path in scripts for size in re.findall(r"size=(\d+)", path.read_text())]
    assert len(sizes) == 3
    for contender in peers.contenders("FOLDER", "bin/python", 80):
        if "infinity" in contender.name:
            sizes.append(contender.command[contender.command.index("--batch-size") + 1])
    assert len(sizes) == 5
    assert len(set(sizes)) == 1


ONE = ("--only", "infinity")


def test_a_run_is_gone_on_with_by_one_of_its_kind_alone(machine: Machine) -> None:
    before = machine.measure(*ONE)["servers"]
    result = machine.measure("--only", "infinity", "ray", "--resume")
    assert list(result["servers"]) == ["infinity", "ray"]
    assert result["servers"]["infinity"] == before["infinity"]
    assert not any("infinity_emb" in " ".join(command) for command in machine.commands("start"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--seconds", "2"), "seconds was 3.0, and is 2.0: start anew"),
        (("--clients", "1", "16"), r"clients was \[1, 64\], and is \[1, 16\]: start anew"),
        (("--drain-seconds", "9"), "drain_seconds was 45, and is 9.0: start anew"),
    ],
)
def test_a_run_of_other_lengths_is_not_gone_on_with(
    machine: Machine, flags: tuple[str, ...], told: str
) -> None:
    machine.measure(*ONE)
    kept = machine.out.read_bytes()
    with pytest.raises(SystemExit, match=f"^{told}"):
        machine.measure(*ONE, "--resume", *flags)
    assert machine.out.read_bytes() == kept


def test_a_run_of_other_weights_is_not_gone_on_with_whatever_the_folders_name(
    machine: Machine, save_tiny: Callable[..., Path]
) -> None:
    machine.measure(*ONE)
    same = machine.folder
    machine.folder = same.rename(same.with_name("renamed"))
    machine.measure(*ONE, "--resume")
    assert not machine.events
    machine.folder = save_tiny(seed=1)
    assert machine.folder == same
    with pytest.raises(SystemExit, match="^checkpoint_sha256 was .*: start anew, without --resume"):
        machine.measure(*ONE, "--resume")
