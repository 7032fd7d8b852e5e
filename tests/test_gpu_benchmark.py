"""What benchmarks.gpu says of the machine, where there is a GPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


def test_result_names_the_gpu_as_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    for measurement in ("agreement", "forward_speed", "service_speed"):
        monkeypatch.setattr(gpu, measurement, lambda *_: {})
    monkeypatch.setattr(gpu, "RESULT", tmp_path / "gpu.json")
    gpu.main()
    result = json.loads(capsys.readouterr().out)
    assert result["gpu"] == "NVIDIA H100"
    assert result["hardware"].endswith(" GiB, NVIDIA H100")
