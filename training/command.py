"""What commands of training share: how they are told device and sources, where results go, and
how they end, or go on in spite of Ctrl-C.

And how paths and versions are written down in what they record.
"""

import argparse
import contextlib
import errno
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from threading import Event

import torch

from model.devices import DeviceError
from model.folders import CheckpointError
from training.config import TrainingError
from training.corpora import CORPORA, KINDS

# Beside what is written first: a dot, and ".partial-" with eight digits (model.folders).
_MOST_BYTES_OF_A_NAME = 255 - 18


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data`` of the commands that read texts without labels."""
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="KIND=PATH",
        help=f"what to read, again for each source; KIND is one of {', '.join(KINDS)}",
    )


def add_run_data(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data`` of the commands that read again what a run was made from."""
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[KIND=]PATH",
        help=f"the runs' data, as for training.finetune; KIND is one of {', '.join(CORPORA)}",
    )
    parser.add_argument(
        "--feedback",
        type=Path,
        action="append",
        default=[],
        help="the runs' files of feedback, where they had any",
    )


def check_new(out: Path) -> None:
    """Refuses a place for a result now rather than after the work: taken, or not to be written to.

    Raises:
        CheckpointError: something is there.
        OSError: as for ``check_folder``.
    """
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out} exists already: give another --out, or remove it first.")
    if len(os.fsencode(out.name)) > _MOST_BYTES_OF_A_NAME:
        raise CheckpointError(f"the name of {out} is too long: give a shorter --out.")
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError as error:
        place = ascii(str(out.absolute()))
        raise CheckpointError(f"{place} is no place for safetensors: it is not UTF-8.") from error
    check_folder(out)


def check_folder(out: Path) -> None:
    """Makes the folder that a result will stand in, and tries whether it takes files.

    Raises:
        CheckpointError: a folder is there in the result's place.
        OSError: no such folder can be made, or nothing be written to it.
    """
    if out.is_dir():
        raise CheckpointError(f"{out} is a folder, where a file is to be written: give its name.")
    out.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=out.parent).close()


def portable(path: str | Path) -> str:
    """The last part of an absolute path, all else as it is: for a command that is written down."""
    return Path(path).name if Path(path).is_absolute() else str(path)


def versions(*packages: str) -> dict[str, str]:
    """Python's version, and those of these packages."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


class CtrlC:
    """Lets Ctrl-C end a training, but not lose it while it is measured and saved.

    In a ``with`` block it raises KeyboardInterrupt during training. After that it is noted once,
    and raises again from the second time on. Where Ctrl-C is ignored, it stays so.

    Attributes:
        is_training: whether it raises.
        was_noted: whether it came after a training.
    """

    def __init__(self) -> None:
        self.is_training = True
        self.was_noted = False
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> "CtrlC":
        if self._before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def begin_training(self) -> None:
        """From here on there is nothing to lose."""
        self.is_training = True

    def end_training(self) -> None:
        """From here on there is."""
        self.is_training = False

    def _take(self, *_: object) -> None:
        if self.is_training or self.was_noted:
            self.is_training = False  # who presses twice does not mean what comes after it
            raise KeyboardInterrupt
        self.was_noted = True
        print("interrupted: the run is being measured and saved; Ctrl-C once more drops it")


@contextlib.contextmanager
def noted_ctrl_c() -> Iterator[Event]:
    """An event that Ctrl-C sets, so that no step is cut in half; where it is ignored, none does."""
    noted = Event()
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: noted.set())
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def exit_code(module: str, run: Callable[[], int]) -> int:
    """What ``run`` returns; 2 and one line on standard error for what cannot be done; 130 for
    Ctrl-C, of which a line tells, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as set while the command was imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run()
    except KeyboardInterrupt:
        print(f"\n{module}: interrupted.", file=sys.stderr)
        return 130
    except (TrainingError, CheckpointError, DeviceError) as error:
        message = str(error)
    # The second where others have left no room for as much as a context.
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        if isinstance(error, torch.AcceleratorError) and "out of memory" not in str(error):
            raise
        reason = str(error).partition("\n")[0].partition(". ")[0]
        message = (
            f"{reason}. Lower batch_size (and raise accumulation_steps), or batch_tokens, in the "
            "recipe; end what else uses the GPU; or take --device cpu."
        )
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        message = (
            "there is not enough memory. Lower batch_size (and raise accumulation_steps), or "
            "batch_tokens, in the recipe, or end other programs that use it."
        )
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"cannot read or write {error.filename or 'a pipe or file'}: {reason}."
        if error.errno == errno.ENOSPC:
            message = "no space left on the disk; nothing stands under the final name."
    print(f"{module}: {message}", file=sys.stderr)
    return 2
