"""Where a checkpoint lies: a folder here, or a hub's repository, downloaded once."""

import re
from pathlib import Path

from model.folders import CheckpointError

# Not "./runs" or "../runs", nor what lies in a folder that is here: those are mistyped.
_HUB_ID = re.compile(r"(?!\.{1,2}/)[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json"]
# Which match in folders, too: other formats of the weights, and a training's earlier ones.
_IN_FOLDERS = "*/*"


def resolve(source: str | Path) -> Path:
    """The local folder of a checkpoint; of a hub id, its safetensors and JSON files are downloaded.

    Raises:
        CheckpointError: neither a folder nor a hub id, or the hub does not have it or is cut off;
            a folder that cannot be read, or that holds a pipe, a device or the like.
    """
    folder = Path(source)
    try:
        if folder.is_dir():
            _check_kinds(folder)
            return folder
    except OSError as error:  # a name too long, a folder that is closed
        raise CheckpointError(f"{source!s} cannot be read: {error.strerror}.") from error
    if not _HUB_ID.fullmatch(str(source)) or folder.parent.is_dir():
        raise CheckpointError(
            f"no checkpoint folder at {source!s}. Give a folder that holds config.json and "
            "model.safetensors, or a hub id such as openai-community/gpt2."
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"there is no folder {source!s} here, and to ask a hub for it the package "
            "huggingface_hub is needed: run scripts/setup train"
        ) from error
    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(source), allow_patterns=_HUB_FILES, ignore_patterns=_IN_FOLDERS
            )
        )
    except Exception as error:  # a cut connection is of its HTTP client's own class
        reason = (str(error) or repr(error)).splitlines()[0].removeprefix("Got: ").rstrip(".")
        raise CheckpointError(
            f"{source!s} is not a folder here, and the hub did not give it: {reason}."
        ) from error


def _check_kinds(folder: Path) -> None:
    """Refuses what could be read without end, or be waited for: /dev/zero, a pipe."""
    for path in folder.iterdir():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise CheckpointError(f"{path} is neither a file nor a folder: remove it.")
