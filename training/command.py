"""What every command of training shares: how it is told its device, and how it ends."""

import argparse
import errno
import sys
from collections.abc import Callable

from model.checkpoint import CheckpointError
from model.classifier import DeviceError
from training.config import TrainingError


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")


def exit_code(module: str, run: Callable[[], int]) -> int:
    """What ``run`` returns, or 2 and one line on standard error for what cannot be done."""
    try:
        return run()
    except (TrainingError, CheckpointError, DeviceError) as error:
        message = str(error)
    except OSError as error:
        message = f"cannot read or write {error.filename}: {error.strerror}."
        if error.errno == errno.ENOSPC:
            message = "no space left on the disk; nothing stands under the final name."
    print(f"{module}: {message}", file=sys.stderr)
    return 2
