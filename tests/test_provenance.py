"""What a checkpoint was made from, and what it can not be judged by."""

from pathlib import Path

import pytest

from model.folders import CheckpointError
from training.config import CorpusError, TrainConfig
from training.corpora import Source, read_mail_folder, sha256_of
from training.provenance import (
    check_data,
    check_foreign,
    check_split,
    learnt_by_all,
    lineage,
    read_base_run,
    recorded_recipe,
)


def test_every_corpus_is_one_that_the_run_was_made_from() -> None:
    config = TrainConfig(corpora=("jsonl",), training_only=("any/invented.jsonl",))
    known = {"one": "1" * 64, "older.jsonl": "2" * 64, "old.jsonl": "4" * 64, "words": "6" * 64}
    recipe: dict[str, object] = {"training_only": ["any/older.jsonl"]}
    recipe |= {"table_only": ["any/words"], "replay": ["any/old.jsonl"]}
    run: dict[str, object] = {"data_sha256": known, "recipe": recipe}
    check_data(run, "run", config, {"renamed": "1" * 64, "invented.jsonl": "3" * 64})
    with pytest.raises(CorpusError, match=r"made from one .*given: one .*, two \(SHA-256 3333"):
        check_data(run, "run", config, {"one": "1" * 64, "two": "3" * 64})
    recipe["furniture"] = 0.3
    run["data_sha256"] = known | {"furniture.json": "7" * 64}
    check_data(run, "run", config, {"one": "1" * 64})
    run["data_sha256"] = known | {"feedback.sqlite": "5" * 64}
    with pytest.raises(CorpusError, match=r"made from .*feedback.sqlite .*given: one"):
        check_data(run, "run", config, {"one": "1" * 64})


@pytest.mark.parametrize(
    "other",
    [
        {"selection": "book"},
        {"split_seed": 9},
        {"train_fraction": 0.6},
        {"validation_fraction": 0.2},
    ],
    ids=str,
)
def test_a_run_that_split_a_corpus_otherwise_is_refused(other: dict[str, object]) -> None:
    config = TrainConfig()
    run = {"data_sha256": {"one": "1" * 64}, "recipe": config.model_dump() | other}
    check_split(run, "run", config, {"one": "2" * 64})
    check_split(run, "run", TrainConfig.model_validate(other), {"one": "1" * 64})
    with pytest.raises(CorpusError, match=f"run was trained with {next(iter(other))} = "):
        check_split(run, "run", config, {"one": "1" * 64})


def test_a_run_that_learnt_all_of_a_corpus_is_refused() -> None:
    recipe = TrainConfig(training_only=("any/one",)).model_dump()
    run = {"data_sha256": {"one": "1" * 64, "sms": "2" * 64}, "recipe": recipe}
    check_split(run, "run", TrainConfig(), {"sms": "2" * 64})
    check_split(
        run, "run", TrainConfig(training_only=("any/one",)), {"sms": "2" * 64, "one": "1" * 64}
    )
    with pytest.raises(CorpusError, match="run was trained on all of one: no part of it can test"):
        check_split(run, "run", TrainConfig(), {"sms": "2" * 64, "one": "1" * 64})


def test_a_run_with_texts_of_its_own_is_not_judged_by_a_split_without_them() -> None:
    run: dict[str, object] = {
        "data_sha256": {"sms": "1" * 64, "invented.jsonl": "2" * 64, "feedback.sqlite": "3" * 64},
        "recipe": {"training_only": ["any/invented.jsonl"]},
    }
    check_split(run, "run", TrainConfig(), {"sms": "1" * 64})
    check_split(run, "run", TrainConfig(), {"own": "4" * 64}, is_judged=True)
    both = {"sms": "1" * 64, "feedback.sqlite": "3" * 64}
    check_split(run, "run", TrainConfig(), both, is_judged=True)
    with pytest.raises(CorpusError, match=r"made from sms .*feedback\.sqlite .*; given: sms"):
        check_split(run, "run", TrainConfig(), {"sms": "1" * 64}, is_judged=True)


def test_the_run_of_a_base_is_read_where_its_weights_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text('{"best_step": 5}')
    monkeypatch.setattr("training.provenance.resolve", lambda place: tmp_path)  # as of a hub
    assert read_base_run(TrainConfig(base="someone/classifier")) == {"best_step": 5}
    assert read_base_run(TrainConfig(base="someone/classifier", random_weights=True)) == {}
    assert read_base_run(TrainConfig(base="random")) == {}
    for key in ("recipe", "data_sha256"):
        (tmp_path / "run.json").write_text(f'{{"{key}": ["sms"]}}')
        with pytest.raises(CheckpointError, match="recipe or data_sha256 is no JSON"):
            read_base_run(TrainConfig(base="someone/classifier"))
    with pytest.raises(CheckpointError, match="data_sha256 is no JSON object"):
        recorded_recipe({"recipe": {}, "data_sha256": ["sms"]}, "mine")
    (tmp_path / "run.json").unlink()
    assert read_base_run(TrainConfig(base="someone/gpt2")) == {}


def test_what_a_base_has_learnt_counts_as_well(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text("{}")
    base = {
        "data_sha256": {"sms": "1" * 64, "foreign.jsonl": sha256_of(foreign)},
        "recipe": TrainConfig(split_seed=9).model_dump(),
    }
    run = {"data_sha256": {"other": "2" * 64}, "base_run": {"base_run": base, "recipe": {}}}
    assert len(list(lineage(run))) == 3
    with pytest.raises(CorpusError, match="run was trained with split_seed = 9"):
        check_split(run, "run", TrainConfig(), {"sms": "1" * 64})
    check_split(run, "run", TrainConfig(split_seed=9), {"sms": "1" * 64}, is_judged=True)
    with pytest.raises(CorpusError, match="which so is not foreign to it"):
        check_foreign(run, "run", [Source("jsonl", foreign)])
    several = learnt_by_all([run, base, {"base_run": run}, {}])
    assert [own.get("data_sha256") for own in lineage(several)] == [
        own.get("data_sha256") for own in lineage(run)
    ]
    assert learnt_by_all([{}]) == {}
    assert list(lineage({"base_run": "none of ours"})) == [{"base_run": "none of ours"}]


def test_hidden_files_are_no_part_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "ham").mkdir()
    (tmp_path / "ham" / "1.txt").write_text("hello")
    before = sha256_of(tmp_path)
    for hidden in (".DS_Store", "ham/._1.txt", ".ham/2.txt"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("hello")
    assert sha256_of(tmp_path) == before
    assert [e.text for e in read_mail_folder(tmp_path)] == ["hello"]
