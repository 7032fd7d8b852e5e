"""Cores that the process may use, by affinity and by quotas of control groups."""

import os
from pathlib import Path

import pytest

from app.cores import usable_cores


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


@pytest.mark.parametrize(
    ("own", "limits", "cores"),
    [
        ("0::/\n", {}, 64),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "350000 100000"}, 3),
        ("0::/\n", {"cpu.max": "nonsense"}, 64),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("1:cpu:/a\n0::/b\n", {"b/cpu.max": "9900000 100000"}, 64),
        ("1:cpu:/\n", {}, 64),
    ],
)
def test_the_least_of_affinity_and_quotas_counts(
    tmp_path: Path, many_cores: None, own: str, limits: dict[str, str], cores: int
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert usable_cores(tmp_path, tmp_path / "own") == cores


def test_a_system_without_affinity_or_control_groups_has_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert usable_cores(tmp_path, tmp_path / "none") == 8
