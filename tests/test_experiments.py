"""The 19 rows of the book's table, on a tiny model and a small corpus."""

import dataclasses
import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from tests.conftest import written
from tests.tiny_training import synthetic_lines
from training import experiments
from training.config import ConfigError
from training.experiments import ROWS, as_table, main, parse_rows, row_config
from training.measuring import TrainedClassifier
from training.results import Results
from training.run import finetune as finetune_once


def run(rows: str, corpus: Path, base: Path, out: Path, seeds: int = 1) -> int:
    return main(
        [rows, "--data", str(corpus), "--base", str(base), "--out", str(out)]
        + ["--seeds", str(seeds), "--epochs", "1"]
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The smallest draw of the book's kind whose parts all hold both classes."""
    path = tmp_path / "SMSSpamCollection"
    path.write_text("\n".join(synthetic_lines(102)) + "\n")
    return path


@pytest.fixture(autouse=True)
def any_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The book's recipe without the hash of the book's file."""
    text = experiments._RECIPE.read_text()
    text = re.sub(r'data_sha256 = ".*"', "", text)
    (tmp_path / "book.toml").write_text(text)
    monkeypatch.setattr(experiments, "_RECIPE", tmp_path / "book.toml")


def test_all_rows_run_and_stand_beside_the_book(
    corpus: Path,
    tiny_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run("", corpus, tiny_base, out) == 0
    runs = json.loads((out / "results.json").read_text())["runs"]
    assert [entry["row"] for entry in runs] == list(range(1, 20))
    table = (out / "results.md").read_text()
    assert table.strip() in capsys.readouterr().out
    for row in ROWS:
        assert f"| {row.number} | {row.about} |" in table
        assert f"| {row.book[0]:.2f} |" in table
    trained = {entry["row"]: entry["figures"]["trained_parameters"] for entry in runs}
    assert trained[3] < trained[1] < trained[4] < trained[5]
    for figures in (entry["figures"] for entry in runs):
        assert figures["peak_memory_mib"] > 50
        assert figures["accuracy"]["test"] == 100 * figures["metrics"]["test"]["accuracy"]
    unpadded = {entry["row"]: entry["recipe"] for entry in runs if entry["row"] in (14, 15)}
    assert [recipe["batch_size"] for recipe in unpadded.values()] == [1, 1]
    assert [recipe["accumulation_steps"] for recipe in unpadded.values()] == [1, 8]


def test_interrupted_table_goes_on_where_it_stopped(
    corpus: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    calls: list[int] = []

    def second_is_interrupted(*arguments: object) -> TrainedClassifier:
        calls.append(1)
        done = finetune_once(*arguments)  # type: ignore[arg-type]
        outcome = dataclasses.replace(done.outcome, interrupted=len(calls) == 2)
        return dataclasses.replace(done, outcome=outcome)

    monkeypatch.setattr(experiments, "finetune", second_is_interrupted)
    assert run("1,3", corpus, tiny_base, out, seeds=2) == 130
    assert len(json.loads((out / "results.json").read_text())["runs"]) == 1
    assert run("1,3", corpus, tiny_base, out, seeds=2) == 0
    assert len(calls) == 2 + 3
    assert "| 1 | the chapter |" in (out / "results.md").read_text()


def test_a_place_that_takes_no_results_is_found_before_the_training(
    corpus: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "finetune", None)
    (tmp_path / "results.json").mkdir()
    assert run("1", corpus, tiny_base, tmp_path, seeds=1) == 2
    if Path("/proc").is_dir():
        assert run("1", corpus, tiny_base, Path("/proc"), seeds=1) == 2


def test_a_table_without_seeds_is_refused(
    corpus: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("1", corpus, tiny_base, tmp_path / "out", seeds=0) == 2
    assert "--seeds is 0" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.md").exists()


def test_larger_sizes_come_from_their_own_bases(tiny_base: Path) -> None:
    xl = ROWS[7]
    assert row_config(xl, "openai-community/gpt2", 1).base == "openai-community/gpt2-xl"
    assert row_config(xl, str(tiny_base), 1).base == str(tiny_base)
    sibling = tiny_base.with_name("base-xl")
    sibling.mkdir()
    for said in (str(tiny_base), f"{tiny_base}/"):
        assert row_config(xl, said, 1).base == str(sibling)


def test_rows_are_named_by_number() -> None:
    assert [row.number for row in parse_rows("1,5,1,10-12,12")] == [1, 5, 10, 11, 12]
    assert len(parse_rows("")) == 19
    for wrong in ("0", "20", "x", "3-1x", "12-10"):
        with pytest.raises(ConfigError, match="numbers from 1 to 19"):
            parse_rows(wrong)


def test_table_shows_mean_and_deviation(tmp_path: Path) -> None:
    results = Results.open(tmp_path / "results.json")
    figures = {"parameters": 10, "trained_parameters": 5, "minutes": 1.0, "device": "x"}
    figures |= {"examples_per_second": 2.0, "peak_memory_mib": 3.0}
    for seed, accuracy, epochs in ((1, 90.0, None), (2, 92.0, None), (1, 50.0, 1)):
        config = row_config(ROWS[0], "base", seed, epochs=epochs)
        parts = dict.fromkeys(("train", "validation", "test"), accuracy)
        results.add(1, config, figures | {"accuracy": parts})
    results = Results.open(tmp_path / "results.json")
    assert "91.00 ± 1.41" in as_table(ROWS, results, "base")
    assert "50.00 ± 0.00" in as_table(ROWS, results, "base", 1)
    assert "| 1 |" not in as_table(ROWS, results, "another base")


def test_two_programs_that_fill_one_table_lose_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    config = row_config(ROWS[0], "base", 1)
    one, two = Results.open(path), Results.open(path)
    one.add(1, config, {"of": "one"})
    two.add(2, config, {"of": "two"})
    two.add(1, config, {"of": "two, the same once more"})
    assert two.has(1, config)
    assert [run["figures"]["of"] for run in json.loads(path.read_text())["runs"]] == ["one", "two"]
    locked: list[str] = []

    def note(name: str) -> list[object]:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked.append(name)
        os.close(descriptor)
        return []

    for name in ("_read", "write_json"):
        monkeypatch.setattr(f"training.results.{name}", lambda *_, name=name: note(name))
    one.add(3, config, {})
    assert locked == ["_read", "write_json"]


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"runs": 5}', '{"runs": {"sms": 5}}', '{"runs": [{"row": 1}]}']
)
def test_foreign_results_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match="not a file of results"):
        Results.open(tmp_path / "results.json")


def test_a_base_of_a_shorter_context_serves_the_rows(tmp_path: Path) -> None:
    for n_positions, most in (512, 512), (4096, 1024):
        base = tmp_path / str(n_positions)
        written(base / "config.json", json.dumps({"n_positions": n_positions}))
        assert experiments.row_config(ROWS[0], str(base), 0).max_tokens == most
