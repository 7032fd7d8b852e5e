"""Devices and number formats: what is asked for, what is there, and what cannot be computed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model import classifier
from model.classifier import Classifier
from model.devices import DeviceError, faster_formats, pick_device, pick_dtype


def test_unknown_devices_and_dtypes_are_named() -> None:
    with pytest.raises(DeviceError, match="device 'nonsense' is not there"):
        pick_device("nonsense")
    with pytest.raises(DeviceError, match="device 'meta' is not one that spamgate knows"):
        pick_device("meta")
    with pytest.raises(DeviceError, match="dtype 'float8' is not known"):
        pick_dtype("float8", torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="device 'cuda' is not there"):
            pick_device("cuda")


@pytest.mark.parametrize(("capability", "has_bfloat16"), [((7, 5), False), ((8, 0), True)])
def test_a_gpu_without_bfloat16_computes_in_float32(
    capability: tuple[int, int], has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There FlashAttention would end the first batch with a RuntimeError."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu = torch.device("cuda")
    assert pick_dtype("float32", gpu) == torch.float32
    assert list(faster_formats(gpu)) == ["bfloat16"] * has_bfloat16
    if has_bfloat16:
        assert pick_dtype("bfloat16", gpu) == torch.bfloat16
    else:
        with pytest.raises(DeviceError, match=r"capability 8\.0"):
            pick_dtype("bfloat16", gpu)


@pytest.mark.parametrize(
    ("built_for", "name", "expected"),
    [
        (["sm_75", "sm_90a", "compute_120"], "auto", "cpu"),
        (["sm_75", "sm_90a", "compute_120"], "cuda", None),
        (["sm_50", "sm_70"], "auto", "cuda"),
        (["sm_50", "sm_70"], "cuda", "cuda"),
        (["sm_50", "sm_75", "sm_90"], "auto", "cpu"),
        (["sm_50", "sm_60", "sm_80"], "auto", "cpu"),
        (["compute_60", "sm_80"], "auto", "cuda"),
        ([], "auto", "cuda"),  # no build for NVIDIA
    ],
)
def test_a_gpu_that_torch_has_no_kernels_for_is_not_used(
    built_for: list[str],
    name: str,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The driver finds it, tensors lie on it, and the first kernel ends in a RuntimeError."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(torch, "empty", lambda *sizes, device: None)
    if expected is None:
        with pytest.raises(
            DeviceError, match=r"V100 has compute capability 7\.0, .* for 7\.5, 9\.0, 12\.0\."
        ):
            pick_device(name)
        return
    assert pick_device(name) == torch.device(expected)
    assert ("the GPU is not used: Tesla V100" in caplog.text) == (expected == "cpu")


@pytest.mark.parametrize("step", ["predict", "trial_seconds"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, FileNotFoundError])
def test_a_faster_format_that_cannot_be_computed_leaves_float32(
    step: str,
    error: type[Exception],
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A GPU without memory for both, a torch without FlashAttention, no folder for its files."""
    as_it_is = getattr(Classifier, step)

    def fail(self, *arguments):
        if self.dtype == torch.bfloat16:
            raise error("it lacks something")
        return as_it_is(self, *arguments)

    monkeypatch.setattr(Classifier, step, fail)
    monkeypatch.setattr(classifier, "faster_formats", lambda device: ["bfloat16"])
    assert Classifier.load(save_tiny(), "cpu", "auto").dtype == torch.float32
    assert "bfloat16 is not used: it lacks something" in caplog.text
