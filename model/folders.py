"""What every folder of files has in common: JSON, and a name that stands for something whole."""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which file, what it holds, what to do."""


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside ``target`` that takes its name once all is written.

    Raises:
        CheckpointError: ``target`` exists; nothing is ever overwritten. Where it has come to exist
            meanwhile, what was written stays under another name, which is told.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists already: give another name, or remove it first.")
    # Not by the process's number: in containers these come again, at the same time, too.
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            partial.rename(target)
        except OSError as error:
            kept = partial.rename(target.with_name(f"{target.name}-{secrets.token_hex(4)}"))
            raise CheckpointError(
                f"{target} cannot be made ({error.strerror}): what was to stand there is {kept}."
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yields a path beside ``target``, to write to, that takes its place once all is written."""
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def parse_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        CheckpointError: missing, unreadable, not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: a checkpoint folder holds it.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CheckpointError: as for ``parse_json``, or it holds something else.
    """
    value = parse_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not a JSON object.")
    return value


def is_there(path: Path) -> bool:
    """Whether a folder has such a file; a link to nothing is one, which reading will tell."""
    return path.exists() or path.is_symlink()


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON with a final newline; what stood there stays until all is written."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    with new_file(path) as partial:
        # Names of files that are not UTF-8 have surrogates, which JSON can escape.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
