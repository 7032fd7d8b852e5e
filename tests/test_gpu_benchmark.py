"""What benchmarks.gpu says of the machine, where there is a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the result, on a machine that seems to have a GPU and measures nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for measurement in ("agreement", "forward_speed", "service_speed"):
        monkeypatch.setattr(gpu, measurement, lambda *_: {})
    monkeypatch.setattr(gpu, "RESULT", tmp_path / "gpu.json")
    return tmp_path / "gpu.json"


def test_result_names_the_gpu_as_used(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu"])
    gpu.main()
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(result.read_text(encoding="utf-8"))
    assert printed["gpu"] == "NVIDIA H100"
    assert printed["hardware"].endswith(" GiB, NVIDIA H100")


def test_a_gpu_without_bfloat16_is_measured_in_float32(
    result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    asked: list[object] = []
    monkeypatch.setattr(gpu, "agreement", lambda checkpoint, dtypes: asked.append(dtypes))
    monkeypatch.setattr(gpu, "forward_speed", asked.append)
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu"])
    gpu.main()
    assert asked == [["float32"], "float32"]
    assert "float32_124M" in json.loads(result.read_text(encoding="utf-8"))


def test_fine_tuning_reads_the_collection_that_is_there_and_loses_nothing_where_it_fails(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "SMSSpamCollection"
    data.touch()
    monkeypatch.setattr(sys, "argv", ["gpu", "--base", "no/base", "--data", str(data)])
    commands: list[list[str]] = []

    def fail(command: list[str], **_: object) -> None:
        commands.append(command)
        raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(subprocess, "run", fail)
    # The versions of the machine are asked for before, without a process.
    monkeypatch.setattr(gpu, "describe", lambda *_: {})
    with pytest.raises(subprocess.CalledProcessError):
        gpu.main()
    assert commands[0][-2:] == ["--data", str(data)]
    assert "service" in json.loads(result.read_text(encoding="utf-8"))
