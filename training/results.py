"""A file of finished runs, so that an interrupted table goes on where it stopped."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.folders import write_json
from training.config import ConfigError, TrainConfig

_KEYS = ("row", "recipe", "figures")


class Results:
    """Runs by row and recipe, in one JSON file that is whole at any time."""

    def __init__(self, path: Path, runs: list[dict[str, Any]]) -> None:
        self.path = path
        self._runs = runs

    @classmethod
    def open(cls, path: Path) -> "Results":
        """Reads the file where it exists.

        Raises:
            ConfigError: the file is there and not readable.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, _read(path))

    def has(self, row: int, config: TrainConfig) -> bool:
        """Whether this row was run with exactly this recipe."""
        recipe = config.model_dump(mode="json")
        return any(run["row"] == row and run["recipe"] == recipe for run in self._runs)

    def of_row(self, row: int, config: TrainConfig) -> list[dict[str, Any]]:
        """The figures of each run of a row with this recipe, whatever its seed."""
        recipe = _without_seed(config.model_dump(mode="json"))
        return [
            run["figures"]
            for run in self._runs
            if run["row"] == row and _without_seed(run["recipe"]) == recipe
        ]

    def add(self, row: int, config: TrainConfig, figures: dict[str, Any]) -> None:
        """Writes the file with a run more than it holds by now: others may add to it, too.

        Raises:
            ConfigError: as for ``open``.
        """
        recipe = config.model_dump(mode="json")
        with _locked(self.path.parent):
            self._runs = _read(self.path)
            if not self.has(row, config):  # another program may have run the same meanwhile
                self._runs.append({"row": row, "recipe": recipe, "figures": figures})
                write_json(self.path, {"runs": self._runs})


def _read(path: Path) -> list[dict[str, Any]]:
    """The runs in a file of results, none where there is no file."""
    if not path.exists():
        return []
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return [{key: run[key] for key in _KEYS} for run in runs]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a file of results: give another --out.") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One program at a time; a file of results is replaced as it is written, so its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _without_seed(recipe: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key != "seed"}
