"""Files that are written whole or not at all."""

import errno
import json
from pathlib import Path

import pytest

from model.folders import write_json


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
