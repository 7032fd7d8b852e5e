"""Feedback in its file and as training reads it: whose labels count, and how often."""

import json
import sqlite3
from pathlib import Path

import pytest

from app.errors import FeedbackFull
from app.feedback import FeedbackStore
from tests.conftest import written
from tests.test_feedback import report
from tests.tiny_training import TINY_RECIPE, on_base, synthetic_lines
from training import finetune
from training.config import CorpusError
from training.corpora import Corpus, Example
from training.feedback import mix_in, read_feedback


def test_one_source_counts_for_so_many_texts_only(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    for number in range(10):
        store.add(report(f"a{9 - number}", "ham", "loud", f"text {number}"))
    store.add(report("b", "spam", "quiet", "other"))
    store.add(report("a2", "spam", "quiet", None))  # of which the loud one sent the text
    store.close()
    kept = read_feedback([tmp_path / "f"], max_texts_per_source=3)
    assert {e.text for e in kept.examples} == {"text 0", "text 1", "text 2", "other", "text 7"}
    assert kept.capped == {"loud": 7}
    assert kept.summary() == (
        "feedback: 5 texts; left out 7 of 'loud', which told more than its share"
    )


def test_a_label_is_mended_in_a_file_that_is_full(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", 1 << 20)
    store.add(report("m", "spam", "joe"))
    store.add(report("n", "spam", "joe", None))
    store._max_bytes = 0
    assert store.add(report("m", "ham", "joe"))
    assert store.add(report("n", "ham", "joe", None))
    for more in report("n", "ham", "joe"), report("o", "ham", "joe", None):
        with pytest.raises(FeedbackFull):
            store.add(more)
    store.close()


def test_files_of_several_times_count_together(tmp_path: Path) -> None:
    """A full file is moved away, and a copy may hold what another does: the last label counts."""
    told = {
        "old": [report("a", "ham", "joe", "mended"), report("b", "spam", "joe", "old")],
        "new": [report("a", "spam", "joe", None), report("c", "ham", "joe", "new")],
    }
    for name, reports in told.items():
        store = FeedbackStore(tmp_path / name, max_bytes=1 << 20)
        for one in reports:
            store.add(one)
        store.close()
    paths = [tmp_path / "new", tmp_path / "old"]
    kept = read_feedback(paths)
    assert {(e.text, e.label) for e in kept.examples} == {("mended", 1), ("old", 1), ("new", 0)}
    assert len(read_feedback(paths, max_texts_per_source=2).examples) == 2
    mixed = mix_in(Corpus([], {}), paths)
    assert sorted(mixed.sha256) == ["new", "old"]


def test_text_that_sources_disagree_about_is_left_out(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f", max_bytes=1 << 20)
    for digest, text in (("d", "text"), ("e", None)):
        store.add(report(digest, "ham", "joe", text))
        store.add(report(digest, "spam", "ann", text))
    store.close()
    kept = read_feedback([tmp_path / "f"])
    assert kept.examples == []
    assert kept.conflicting == ["d", "e"]
    assert kept.textless == 0  # for one reason only


def test_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not SQLite at all, but long enough to look at\n" * 100)
    sqlite3.connect(tmp_path / "empty").close()
    for name in ("missing", "text", "empty"):
        with pytest.raises(CorpusError):
            read_feedback([tmp_path / name])
    store = FeedbackStore(tmp_path / "odd", max_bytes=1 << 20)
    store.add(report("d", "junk", "joe"))
    store.close()
    with pytest.raises(CorpusError, match="a label that is neither ham nor spam"):
        read_feedback([tmp_path / "odd"])


def test_feedback_is_not_mixed_with_a_corpus_of_its_name(tmp_path: Path) -> None:
    file = tmp_path / "feedback.jsonl"
    FeedbackStore(file, max_bytes=1 << 20).close()
    for source, sha256 in (("sms", {"feedback.jsonl": "0" * 64}), ("feedback", {})):
        with pytest.raises(CorpusError, match="two corpora are named feedback"):
            mix_in(Corpus([Example("text", 0, source)], sha256), [file])


def test_feedback_that_the_base_has_learnt_is_not_tested_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeedbackStore(tmp_path / "feedback.sqlite", max_bytes=1 << 20)
    for number in range(40):
        label = ("ham", "spam")[number % 2]
        store.add(report(f"d{number}", label, f"j{number}", f"told text number {number} of joe"))
    store.close()
    lines = synthetic_lines(160)
    first = written(tmp_path / "a", "\n".join(lines[:80]) + "\n")
    second = written(tmp_path / "b", "\n".join(lines[80:]) + "\n")
    recipe = written(tmp_path / "tiny.toml", TINY_RECIPE)
    common = ["--epochs", "1", "--feedback", str(tmp_path / "feedback.sqlite")]
    one = [str(recipe), "--data", str(first), *common, "--out", str(tmp_path / "one")]
    assert finetune.main(one) == 0
    other = on_base(TINY_RECIPE, tmp_path / "one") + "keep_head = true\nsplit_seed = 7\n"
    written(recipe, other)
    two = [str(recipe), "--data", str(second), *common, "--out", str(tmp_path / "two")]
    assert finetune.main(two) == 2
    assert "split_seed" in capsys.readouterr().err


def test_a_training_run_takes_feedback_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeedbackStore(tmp_path / "feedback.sqlite", max_bytes=1 << 20)
    for number in range(7):
        store.add(report(f"d{number}", "spam", "joe", f"told text number {number} of joe"))
    store.close()
    corpus, recipe = tmp_path / "SMSSpamCollection", tmp_path / "tiny.toml"
    corpus.write_text("\n".join(synthetic_lines(80)) + "\n")
    recipe.write_text(TINY_RECIPE)
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1"]

    def texts_trained(out: str, *more: str) -> int:
        assert finetune.main([*arguments, "--out", str(tmp_path / out), *more]) == 0
        run = json.loads((tmp_path / out / "run.json").read_text())
        return sum(sum(part.values()) for part in run["counts"].values())

    with_feedback = texts_trained("with", "--feedback", str(tmp_path / "feedback.sqlite"))
    assert with_feedback - texts_trained("without") == 7
    assert "feedback: 7 texts" in capsys.readouterr().out
    missing = [*arguments, "--out", str(tmp_path / "x"), "--feedback", str(tmp_path / "none")]
    assert finetune.main(missing) == 2
    recipe.write_text(TINY_RECIPE + 'selection = "book"\n')
    assert finetune.main([*missing[:-1], str(tmp_path / "feedback.sqlite")]) == 2
    assert 'feedback needs a recipe with selection = "all"' in capsys.readouterr().err
