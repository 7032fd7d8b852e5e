"""The comparison with other servers says what was compared."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks import peers

SERVERS = {
    "spamgate float32": 30.0,
    "spamgate bfloat16": 120.0,
    "infinity": 12.0,
    "infinity bfloat16": 40.0,
    "litserve": 10.0,
    "bentoml": 11.0,
    "ray bfloat16": 35.0,
}


def figures(name: str, rate: float) -> dict:
    bare = {"texts_per_second": {"64": rate}}
    own = {"bare_model": bare, "bare_model_after": bare} if name.startswith("spamgate") else {}
    return {"closed_loop": {"64": {"ok_per_second": rate}}, **own}


def test_peers_are_compared_in_float32_and_in_the_format_that_suits_them() -> None:
    summary = peers.summary({name: figures(name, rate) for name, rate in SERVERS.items()})
    assert summary["best_peer"] == "infinity"
    assert summary["times_best_peer"] == {"spamgate float32": 2.5, "spamgate bfloat16": 10.0}
    assert summary["best_peer_of_any_format"] == "infinity bfloat16"
    assert summary["times_best_peer_of_any_format"] == {
        "spamgate float32": 0.75,
        "spamgate bfloat16": 3.0,
    }


def test_every_peer_with_a_number_format_is_measured_in_both() -> None:
    rivals = [c for c in peers.contenders("FOLDER", "bin/python", 80) if not c.is_own]
    asked = {rival.name: " ".join(rival.command) for rival in rivals}
    assert "fastapi + pipeline" in asked
    for name in ("infinity", "litserve", "bentoml", "ray"):
        for dtype, full_name in (("float32", name), ("bfloat16", f"{name} bfloat16")):
            assert "FOLDER" in asked[full_name]
            assert dtype in asked[full_name]
    assert all(rival.dtype == "float32" or rival.dtype in rival.name for rival in rivals)


def test_spamgate_has_one_thread_and_no_cache_as_the_others() -> None:
    for own in (c for c in peers.contenders("FOLDER", "bin/python", 80) if c.is_own):
        flags = " ".join(own.command)
        assert "--threads 1 --cache-bytes 0 " in flags
    assert (peers.SERVER_CORE, peers.CLIENT_CORE) == ("0", "1")


def test_the_command_is_recorded_as_it_was_given_but_for_paths(
    save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "measure", lambda *_: {"failed": "not asked"})
    monkeypatch.setattr(os, "environ", {})
    out = tmp_path / "peers.json"
    given = f"{save_tiny()} --peers-python {sys.executable} --clients 1 64 --seconds 2".split()
    only = ("--only", "fastapi + pipeline")
    monkeypatch.setattr(sys, "argv", ["peers", *given, "--out", str(out), *only])
    peers.main()
    recorded = json.loads(out.read_text())["command"].partition("benchmarks.peers ")[2]
    assert shlex.split(recorded) == [
        *("FOLDER", "--peers-python", "VENV/bin/python", "--clients", "1", "64"),
        *("--seconds", "2", "--drain-seconds", "45", "--only", "fastapi + pipeline"),
    ]


def test_a_peer_that_is_not_installed_costs_no_measurement() -> None:
    """The tests' own environment has torch, and not all peers."""
    assert peers.peer_versions(sys.executable)["torch"] == version("torch")


def test_figures_of_another_machine_are_not_gone_on_with() -> None:
    now = dict.fromkeys(peers.COMPARED_WITH, "this")
    peers.refuse_other(now | {"command": "another", "checkpoint": "renamed"}, now)
    for key in ("hardware", "commit", "versions", "peers"):
        with pytest.raises(SystemExit, match=f"^{key} was that, and is this: start anew"):
            peers.refuse_other(now | {key: "that"}, now)


def test_clients_of_which_none_is_compared_end_in_a_summary() -> None:
    own = figures("spamgate float32", 200.0)
    own["closed_loop"] = {"16": {"ok_per_second": 150.0}}
    own["again"] = {"ok_per_second": 180.0}
    summary = peers.summary({"spamgate float32": own, "ray": figures("ray", 50.0)})
    assert summary["times_best_peer"] == {"spamgate float32": 3.6}
    assert "share_of_bare_model" not in summary


def test_of_two_rounds_and_of_the_bare_model_before_and_after_the_mean_counts() -> None:
    rounds = {"closed_loop": {"64": {"ok_per_second": 100.0}}, "again": {"ok_per_second": 50.0}}
    assert peers.compared(rounds) == 75.0
    bare = {
        "bare_model": {"texts_per_second": {"8": 10.0, "64": 30.0}},
        "bare_model_after": {"texts_per_second": {"8": 90.0, "64": 50.0}},
    }
    assert peers.bare_texts_per_second(bare) == 50.0
