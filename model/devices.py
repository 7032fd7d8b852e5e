"""Where and in which number format this machine can compute; knows nothing of checkpoints."""

import logging
from collections.abc import Iterator

import torch

from model import bf16, int8

_log = logging.getLogger(__name__)


class DeviceError(ValueError):
    """A device or number format that was asked for by name and is not there."""


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

    A GPU that this torch has no kernels for is none to ``auto``.

    Raises:
        DeviceError: no such device here, or it is such a GPU.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        device = torch.device("cuda")
        if reason := _has_no_kernels(device):
            _log.warning("the GPU is not used: %s", reason)
            return torch.device("cpu")
        return device
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"device {name!r} is not there ({reason}). Use auto, cpu, or cuda on a machine with an "
            "NVIDIA GPU, with a CUDA build of torch that its driver is new enough for."
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(
            f"device {name!r} is not one that spamgate knows: auto, cpu, cuda, cuda:1."
        )
    if device.type == "cuda" and (reason := _has_no_kernels(device)):
        raise DeviceError(f"device {name!r} cannot be used: {reason}")
    return device


def _has_no_kernels(device: torch.device) -> str | None:
    """Why this torch has no kernels for a GPU; None where it has, or may have.

    Those built for a capability (``sm_``) run on later ones of the same major number, those that
    the driver translates (``compute_``) on all later ones. Asks the driver alone: a kernel to try
    it would cost each process of several its own memory on the first GPU.
    """
    own = torch.cuda.get_device_capability(device)
    built_for = [arch.partition("_")[::2] for arch in torch.cuda.get_arch_list()]
    kernels = [
        (kind, divmod(int("".join(filter(str.isdigit, number))), 10))
        for kind, number in built_for
        if kind in ("sm", "compute")
    ]
    suits = [least <= own and (kind == "compute" or least[0] == own[0]) for kind, least in kernels]
    if not kernels or any(suits):
        return None
    least = ", ".join(sorted({f"{major}.{minor}" for _, (major, minor) in kernels}, key=float))
    return (
        f"{torch.cuda.get_device_name(device)} has compute capability {own[0]}.{own[1]}, and torch "
        f"{torch.__version__} is built for {least}. Install another build (cu126 is for older "
        "GPUs), or use cpu."
    )


def faster_formats(device: torch.device) -> Iterator[str]:
    """The number formats, in ``pick_dtype``'s names, that may be faster there than float32."""
    if bf16.is_native(device):
        yield "bfloat16"
    if device.type == "cpu" and int8.is_supported():
        yield "int8"


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of that name.

    Raises:
        DeviceError: an unknown name, or one that the device cannot compute in.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    if name not in dtypes:
        raise DeviceError(f"dtype {name!r} is not known; allowed: auto, {', '.join(dtypes)}.")
    if name == "bfloat16" and device.type == "cuda" and not bf16.is_native(device):
        raise DeviceError(
            "dtype bfloat16 needs an NVIDIA GPU of compute capability 8.0 (Ampere) or later. Use "
            "auto or float32."
        )
    if name == "int8" and not (device.type == "cpu" and int8.is_supported()):
        raise DeviceError(
            "dtype int8 needs a CPU with VNNI instructions, and device cpu. Use auto or float32."
        )
    return dtypes[name]
