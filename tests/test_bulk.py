"""Archives of every kind scored, resumed, and told apart from what cannot be read."""

import fcntl
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import bulk, records, text_lines
from app.bulk import main
from model.classifier import Classifier
from model.mail import message_to_text
from model.prediction import Prediction
from model.windows import encode_windows, join_predictions
from tests.conftest import AWKWARD_TEXTS, HAM, SPAM, written

Score = Callable[..., list[dict[str, Any]]]
"""Scores files with one tiny checkpoint; the results so far."""

MAIL = f"From: a@example.org\nSubject: Winner\n\n{SPAM}\n".encode()


@pytest.fixture
def score(save_tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    monkeypatch.setenv("SPAMGATE_DTYPE", "float32")
    checkpoint = save_tiny()

    def run(*files: Path, code: int = 0, flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        out = tmp_path / "out.jsonl"
        common = ["--out", str(out), "--checkpoint", str(checkpoint), "--device", "cpu"]
        assert main([*map(str, files), *common, *flags]) == code
        return [json.loads(line) for line in out.read_text().splitlines()] if code != 2 else []

    return run


def expected(folder: Path, text: str) -> Prediction:
    classifier = Classifier.load(folder, "cpu", "float32")
    windowed = encode_windows(text, classifier.max_tokens, 8)
    return join_predictions(classifier.predict(windowed.windows), truncated=windowed.truncated)


def test_a_run_goes_on_by_the_settings_that_it_began_with(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    path = written(tmp_path / "a.txt", f"{HAM}\n")
    written(tmp_path / "tiny" / "run.json", '{"spam_prior": 0.5}')
    flags = ("--spam-from", "0.7")
    [first] = score(path, flags=flags)
    written(path, f"{HAM}\n{SPAM}\n")
    score(path, code=2)
    for name, value in ("SPAM_PRIOR", "0.9"), ("MAX_WINDOWS", "2"), ("SCORE_WEIGHT", "3"):
        with monkeypatch.context() as changed:
            changed.setenv(f"SPAMGATE_{name}", value)
            score(path, code=2, flags=flags)
        assert "holds results by other cut-offs, or another prior" in capsys.readouterr().err
    again, other = score(path, flags=flags)
    assert (again, other["settings"]) == (first, first["settings"])


def test_text_of_more_windows_than_are_read_is_told(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAMGATE_MAX_WINDOWS", "1")
    [result] = score(written(tmp_path / "a.txt", "word " * 1100))
    assert (result["windows"], result["truncated"]) == (1, True)


def test_texts_are_scored_in_their_order_whatever_their_length(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPAMGATE_SCORE_WEIGHT", "3")
    texts = [HAM, "word " * 1900, SPAM, "short", "prize " * 1400]
    path = written(tmp_path / "a.txt", "\n".join(texts[:3]) + "\n\n" + "\n".join(texts[3:]))
    results = score(path)
    assert [result["position"] for result in results] == [1, 2, 3, 5, 6]
    assert {result["source"] for result in results} == {str(path)}
    for result, text in zip(results, texts, strict=True):
        told = expected(tmp_path / "tiny", text)
        assert result["probabilities"]["spam"] == pytest.approx(told.spam_probability, abs=1e-5)
        assert result["score"] == pytest.approx(6 * told.spam_probability - 3, abs=1e-3)
        assert (result["label"], result["tokens"]) == (told.label, told.num_tokens)
        assert "text" not in result
    assert [result["windows"] > 1 for result in results] == [False, True, False, False, True]
    assert SPAM not in (tmp_path / "out.jsonl").read_text()


def test_every_format_gives_the_same_verdict(score: Score, tmp_path: Path) -> None:
    text = message_to_text(MAIL).text
    files = [
        written(tmp_path / "a.csv", f'id,text\n1,"{text}"\n2,"{text}"\n'),
        written(tmp_path / "a.jsonl", json.dumps({"text": text}) + "\n"),
        written(tmp_path / "a.eml", MAIL),
        written(tmp_path / "a.mbox", b"From a\n" + MAIL + b"\nFrom b\n" + MAIL),
        written(tmp_path / "box" / "new" / "2", MAIL).parents[1],
        written(tmp_path / "plain", b"From a Tue\n" + MAIL),
    ]
    written(tmp_path / "box" / "cur" / "1:2,S", MAIL)
    written(tmp_path / "box" / "tmp" / "3", MAIL)
    results = score(*files)
    names = [Path(result["source"]).name for result in results]
    assert names == ["a.csv"] * 2 + ["a.jsonl", "a.eml"] + ["a.mbox"] * 2 + ["1:2,S", "2", "plain"]
    assert [result["position"] for result in results] == [1, 2, 1, 1, 1, 2, 1, 1, 1]
    told = [expected(tmp_path / "tiny", text).spam_probability] * len(results)
    assert [r["probabilities"]["spam"] for r in results] == pytest.approx(told, abs=1e-5)


def test_bad_records_are_told_and_stop_nothing(
    score: Score,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 2000)
    lines = [
        json.dumps({"text": SPAM}),
        "{not json " + SPAM,
        '{"other": 1}',
        '["list"]',
        '{"text": 5}',
        "[" * 1500,
        json.dumps({"text": "x" * 3000}),
        "\udcff\udcfe",
        json.dumps({"text": HAM}),
    ]
    jsonl = written(tmp_path / "a.jsonl", "\n".join(lines))
    csv = written(tmp_path / "a.csv", f'id,text\n1\n2,"{"y" * 3000}"\n3,{HAM!r}\n')
    results = score(jsonl, csv, written(tmp_path / "a.txt", "x" * 3000))
    assert results.pop()["truncated"]
    assert [result.get("error", "") != "" for result in results[:9]] == [False] + [True] * 7 + [
        False
    ]
    assert results[-1]["position"] >= 3
    assert "error" in results[9]
    assert "error" not in results[-1]
    assert "4 scored, 9 bad records" in capsys.readouterr().out
    assert SPAM not in (tmp_path / "out.jsonl").read_text()


def test_interrupted_run_goes_on_without_scoring_again(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        written(tmp_path / f"{n}.txt", "".join(f"text {n} {line}\n" for line in range(10)))
        for n in range(3)
    ]
    out = tmp_path / "out.jsonl"
    whole = score(*files)
    out.unlink()
    monkeypatch.setattr(bulk, "_CHUNK_RECORDS", 4)
    original, seen = bulk.Scorer.score, []

    def interrupted(self: bulk.Scorer, chunk: list[records.Record]) -> list[dict[str, Any]]:
        seen.append(len(chunk))
        if len(seen) == 5:
            raise KeyboardInterrupt
        return original(self, chunk)

    monkeypatch.setattr(bulk.Scorer, "score", interrupted)
    assert len(score(*files, code=130)) == 16
    with out.open("a") as file:
        file.write('{"source": "half a li')
    seen.clear()
    resumed = score(*files)
    assert sum(seen) == 14
    places = [(result["source"], result["position"]) for result in resumed]
    assert places == [(result["source"], result["position"]) for result in whole]
    seen.clear()
    assert score(*files) == resumed
    assert seen == []


def test_cutoffs_texts_and_column_are_as_told(score: Score, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"sms": t, "text": t}) + "\n" for t in AWKWARD_TEXTS)
    path = written(tmp_path / "a.jsonl", lines)
    score(path, code=2, flags=("--column", "sms", "--ham-below", "0.9", "--spam-from", "0.1"))
    flags = ("--column", "sms", "--keep-text", "--ham-below", "0", "--spam-from", "0")
    results = score(path, flags=flags)
    assert [result["text"] for result in results] == AWKWARD_TEXTS
    assert {result["decision"] for result in results} == {"spam"}
    score(path, code=2, flags=flags[2:])  # of another column


def test_checkpoint_cutoffs_and_prior_count_where_nothing_else_is_told(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"cutoffs": {"ham_below": 1, "spam_from": 1}, "spam_prior": 0.2}
    (tmp_path / "tiny" / "run.json").write_text(json.dumps(run))
    path = written(tmp_path / "a.txt", SPAM)
    [plain] = score(path)
    assert plain["decision"] == "ham"
    (tmp_path / "out.jsonl").unlink()
    monkeypatch.setenv("SPAMGATE_SPAM_PRIOR", "0.5")
    [told] = score(path, flags=("--ham-below", "0"))
    assert told["decision"] == "unsure"
    odds = [p["spam"] / p["ham"] for p in (plain["probabilities"], told["probabilities"])]
    assert odds[1] == pytest.approx(4 * odds[0], rel=1e-3)


@pytest.mark.parametrize(
    "content",
    [
        '{"api": "keys", "a": 1}',
        "one text here",
        '{"source": "web", "text": "no result"}',
        '{"source": "a", "position": 1e999, "model": "m"}\n',
    ],
)
def test_file_that_holds_no_results_stays_as_it_is(
    score: Score, tmp_path: Path, content: str
) -> None:
    out = written(tmp_path / "out.jsonl", content)
    score(written(tmp_path / "a.txt", HAM), code=2)
    assert out.read_text() == content


@pytest.mark.parametrize("half", ['{"sour', '{"source": "half a li', '{"source": "a", "p": {}'])
def test_half_of_a_first_result_is_written_again(score: Score, tmp_path: Path, half: str) -> None:
    written(tmp_path / "out.jsonl", half)
    [result] = score(written(tmp_path / "a.txt", HAM))
    whole = json.dumps(result)
    written(tmp_path / "out.jsonl", whole)  # all but the line end
    assert score(tmp_path / "a.txt") == [result]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, "cannot read"),
        ("a.csv", "id,body\n1,x\n", "has no column 'text': it is not among the 2 that the first"),
        ("a.csv", "", "among the 0"),
        ("a.bin", "x", "does not tell its format"),
        ("a.txt", HAM.encode("utf-16"), "is in UTF-16. Convert it to UTF-8 first"),
        ("folder/x.txt", "x", "neither cur nor new. Name the files in it"),
        ("out.jsonl", '{"text": "x"}\n', "holds no results of app.bulk"),
        ("out.jsonl", '{"source": "a", "position": 1, "model": "m"}\n', "holds results of m"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_code_2(
    score: Score,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | str | None,
    message: str,
) -> None:
    path = tmp_path / name
    if content is not None:
        written(path, content)
    if name == "out.jsonl":
        path = written(tmp_path / "a.txt", HAM)
    score(tmp_path / "folder" if "folder" in name else path, code=2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_results_do_not_go_where_records_come_from(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = written(tmp_path / "a.txt", HAM + "\n")
    (tmp_path / "out.jsonl").symlink_to(texts)
    score(texts, code=2)
    assert "is one of the files to be scored" in capsys.readouterr().err
    assert texts.read_text() == HAM + "\n"


def test_pipe_is_refused_before_its_records_are_lost(
    score: Score, capsys: pytest.CaptureFixture[str]
) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, HAM.encode())
    os.close(write_end)
    score(Path(f"/dev/fd/{read_end}"), code=2, flags=("--format", "txt"))
    os.close(read_end)
    assert "is no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["cur/out.jsonl", "out.jsonl"])
def test_results_do_not_go_into_the_maildir_that_is_scored(
    score: Score, tmp_path: Path, place: str
) -> None:
    box = written(tmp_path / "box" / "cur" / "1:2,S", MAIL).parents[1]
    (tmp_path / "out.jsonl").symlink_to(box / place)
    score(box, code=2)
    assert not (box / place).exists()


def test_message_that_was_read_meanwhile_is_not_scored_again(score: Score, tmp_path: Path) -> None:
    message = written(tmp_path / "box" / "new" / "1.host", MAIL)
    texts = written(tmp_path / "box" / "notes" / "3.host", f"{HAM}\n{SPAM}\n")  # no message
    score(tmp_path / "box", texts, flags=("--format", "txt"))
    message.rename(written(tmp_path / "box" / "cur" / "2.host:2,", MAIL).with_name("1.host:2,S"))
    written(tmp_path / "box" / "cur" / "3.host:2,", MAIL)
    results = score(tmp_path / "box", texts, flags=("--format", "txt"))
    names = [Path(result["source"]).name for result in results]
    assert names == ["1.host", "3.host", "3.host", "2.host:2,", "3.host:2,"]


def test_results_go_to_a_regular_file_of_a_folder_alone(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    for name, message in (("null", "null is no regular file"), ("none/x", "none is no folder.")):
        score(written(tmp_path / "a.txt", HAM), code=2, flags=("--out", str(tmp_path / name)))
        assert message in capsys.readouterr().err


def test_two_runs_do_not_write_to_one_file(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = written(tmp_path / "a.txt", HAM)
    with (tmp_path / "out.jsonl").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        score(texts, code=2)
    assert "another run writes to" in capsys.readouterr().err
    assert len(score(texts)) == 1


def test_file_that_is_named_twice_is_scored_once(score: Score, tmp_path: Path) -> None:
    texts = written(tmp_path / "a.txt", f"{HAM}\n{SPAM}\n")
    assert [result["position"] for result in score(texts, Path(os.path.relpath(texts)))] == [1, 2]


@pytest.mark.parametrize("place", ["a.txt", "box"])
def test_file_with_results_is_not_scored_under_another_spelling(
    score: Score,
    tmp_path: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(tmp_path / "a.txt", HAM)
    written(tmp_path / "box" / "new" / "1", f"Subject: x\n\n{HAM}")
    monkeypatch.chdir(tmp_path)
    assert len(score(Path(place))) == len(score(Path(place))) == 1
    score(tmp_path / place, code=2)
    assert f"{place} has results as {place}. Name it so" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "mbox"])
def test_run_goes_on_where_a_file_has_grown_alone(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    one, two, three = {
        "txt": [f"{text}\n" for text in (HAM, SPAM, "three")],
        "csv": [f"text\n{HAM!r}\n", f"{SPAM!r}\n", "three\n"],
        "jsonl": [json.dumps({"text": text}) + "\n" for text in (HAM, SPAM, "three")],
        "mbox": [f"From a\nTo: c\n\n{text}\n\n" for text in (HAM, SPAM, "three")],
    }[suffix]
    path = written(tmp_path / f"a.{suffix}", one + two)
    before = score(path)
    after = score(written(path, one + two + three))
    assert after[:2] == before
    assert [result["position"] for result in after] == [1, 2, 3]
    for other in (one + three + two, one, one.replace(HAM[:4], "Else") + two + three):
        score(written(path, other), code=2)
        assert "has changed since" in capsys.readouterr().err


def test_last_record_is_scored_once_it_is_whole_and_must_stay_so(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (json.dumps({"text": text}) + "\n" for text in (HAM, SPAM))
    path = written(tmp_path / "a.jsonl", one + two[:20])
    for _ in range(2):
        assert [result.get("error") for result in score(path)] == [None, "not JSON"]
    after = score(written(path, one + two))
    assert [(r["position"], "error" in r) for r in after] == [(1, False), (2, True), (2, False)]
    score(written(path, one + "{" + two + one), code=2)
    assert "has changed since" in capsys.readouterr().err


def test_message_that_vanishes_meanwhile_is_a_bad_record(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = written(tmp_path / "box" / "new" / "1", MAIL).parents[1]
    gone = box / "new" / "0"
    listed = records._files
    monkeypatch.setattr(records, "_files", lambda source: [gone, *listed(source)])
    results = score(box)
    assert [result.get("error") for result in results] == ["the file is gone", None]
    written(box / "cur" / "0:2,S", MAIL)  # where it had gone
    assert [result.get("error") for result in score(box)] == ["the file is gone", None, None]
    monkeypatch.setattr(records, "_files", listed)
    written(gone, MAIL)  # and back where it had been
    assert [result.get("error") for result in score(box)] == ["the file is gone", None, None, None]


def test_what_is_compressed_is_not_read_as_text(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(written(tmp_path / "a.mbox.gz", gzip.compress(MAIL)), code=2)
    assert "is compressed. Unpack it first" in capsys.readouterr().err
    box = written(tmp_path / "box" / "new" / "1", gzip.compress(MAIL)).parents[1]
    assert [result["error"] for result in score(box)] == ["compressed"]
