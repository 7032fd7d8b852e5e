"""Files that are written whole or not at all."""

import errno
import json
from pathlib import Path

import pytest

from model.folders import CheckpointError, new_folder, write_json
from training.command import check_new


def test_a_result_stays_where_the_next_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tmp_path / "result.json"
    write_json(result, {"first": 1})
    write = Path.write_text

    def fill_the_disk(path: Path, text: str, **_: str) -> int:
        write(path, text[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_json(result, {"second": 2})
    monkeypatch.undo()
    assert json.loads(result.read_text()) == {"first": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_what_finds_its_place_taken_at_the_end_is_kept_beside_it(tmp_path: Path) -> None:
    def write(name: str) -> None:
        with new_folder(tmp_path / "run") as folder:
            (folder / "weights").write_text(name)
            (tmp_path / "run").mkdir()  # meanwhile, by another run of the recipe
            (tmp_path / "run" / "weights").write_text("other")

    with pytest.raises(CheckpointError, match="what was to stand there is") as error:
        write("mine")
    [kept] = [path for path in tmp_path.iterdir() if path.name != "run"]
    assert (kept / "weights").read_text() == "mine"
    assert str(kept) in str(error.value)
    assert (tmp_path / "run" / "weights").read_text() == "other"


def test_places_that_cannot_be_taken_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "run")
    with pytest.raises(CheckpointError, match="exists already"):
        check_new(tmp_path / "link")
    check_new(tmp_path / ("n" * 200))
    with pytest.raises(CheckpointError, match="too long"):
        check_new(tmp_path / ("n" * 240))
