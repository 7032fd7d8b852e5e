"""What a run of app.bulk goes on from."""

import json
from pathlib import Path

import pytest

from app import records
from app.records import open_source
from app.resume import BulkError, Done, done_before, missing, sha256_of
from tests.conftest import written


def test_results_of_a_version_that_told_no_settings_are_gone_on_from(tmp_path: Path) -> None:
    line = {"source": "a", "position": 2, "text_sha256": "x", "model": "m"}
    out = written(tmp_path / "out.jsonl", json.dumps(line) + "\n")
    [done] = done_before(out, "m", "any").values()
    assert (done.position, done.text_sha256) == (2, "x")


def test_message_that_has_a_result_may_be_gone_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "new" / "1"
    gone.parent.mkdir()
    monkeypatch.setattr(records, "_files", lambda source: [gone])
    source = open_source(tmp_path, None, "text")
    done = {str(gone): Done(0, None).and_then(1, "x")}
    assert list(missing([source], "text", done, lambda size: None)) == []


def test_a_record_that_was_bad_at_first_counts_once() -> None:
    first = Done(0, None).and_then(1, "a")
    assert first.and_then(2, None).and_then(2, "b").and_then(3, "c") == (
        first.and_then(2, "b").and_then(3, "c")
    )


def test_a_record_that_is_blank_now_is_a_change(tmp_path: Path) -> None:
    for texts in ("a\n\nc\n", "a\n\n"):
        source = open_source(written(tmp_path / "a.txt", texts), None, "text")
        last = Done(0, None).and_then(1, sha256_of("a")).and_then(2, sha256_of("b"))
        with pytest.raises(BulkError, match="has changed"):
            list(missing([source], "text", {str(source.path): last}, lambda size: None))
