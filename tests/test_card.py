"""The model card says what is so, and names a corpus only where it is that one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from training.card import RunRecord, circumstances, write_model_card
from training.config import TrainConfig
from training.corpora import Example, sha256_of
from training.data import Splits
from training.history import History
from training.loop import Outcome, Snapshot, chosen_precision

CPU = torch.device("cpu")
STARTER = Path(__file__).parents[1] / "checkpoints" / "starter" / "run.json"


def facts_of(cutoffs: dict[str, float], ham: float = 1.0, spam: float = 1.0) -> dict[str, Any]:
    return {"cutoffs": cutoffs, "decided": {"ham": ham, "spam": spam}, "reliability": []}


def card(
    folder: Path,
    config: TrainConfig,
    data_sha256: dict[str, str],
    *,
    has_table: bool = False,
    **changes: Any,
) -> str:
    cutoffs = ("ham_below", "spam_from", "blocks_0_1_percent", "blocks_1_percent")
    record = RunRecord(
        counts={"validation": {"ham": 598, "spam": 2}},
        metrics={},
        facts=facts_of(dict.fromkeys(cutoffs, 0.5)),
        data_sha256=data_sha256,
        best_step=7,
        best_validation_loss=0.1,
        training_seconds=1,
        examples_per_second=1,
        interrupted=False,
        history={},
        seeds=[],
        is_average=False,
    )
    record = dataclasses.replace(record, **changes)
    write_model_card(folder / "README.md", "mine", config, record, has_table=has_table)
    return (folder / "README.md").read_text()


def test_corpora_are_named_by_their_hashes(tmp_path: Path) -> None:
    corpora = ("sms", "jsonl", "mail")
    files = {"training_only": ("any/synthetic.jsonl",), "table_only": ("a/c",), "replay": ("a/b",)}
    config = TrainConfig(corpora=corpora, ngrams=0.5, **files)
    data = json.loads(STARTER.read_text())["data_sha256"]
    data |= {"synthetic.jsonl": "9" * 64, "b": "8" * 64, "c": "7" * 64}
    text = card(tmp_path, config, data)
    for name in (
        "- SMS Spam Collection (",
        "- YouTube Spam Collection (",
        "- SpamAssassin public mail corpus (English, of 2002 and 2003; ",
        "- for training only: synthetic.jsonl (SHA-256 999999999999…)",
        "- for training only: of the table alone, c (SHA-256 777777777777…)",
        "- for training only: one of 4 parts, chosen by the seed, of b (SHA-256 888888888888…)",
    ):
        assert name in text
    whole = card(tmp_path, config.model_copy(update={"replay_parts": 1}), data)
    assert "- for training only: b (SHA-256 888888888888…)" in whole


def test_what_ships_names_no_folder_of_the_machine_that_made_it() -> None:
    root = STARTER.parents[2]
    for path in (*root.glob("checkpoints/*/run.json"), *root.glob("benchmarks/results/*.json")):
        assert '"/' not in path.read_text(encoding="utf-8"), path


def test_data_of_ones_own_is_named_by_file_and_hash(tmp_path: Path) -> None:
    config = TrainConfig(corpora=("jsonl", "mail"))
    data = {"own.jsonl": "a" * 64, "my-mail": "b" * 64, "feedback.sqlite": "c" * 64}
    text = card(tmp_path, config, data)
    for name, sha256 in data.items():
        assert f"- {name} (SHA-256 {sha256[:12]}…)" in text
    for untrue in ("YouTube", "SpamAssassin", "2002", "English", "SMS"):
        assert untrue not in text


@pytest.mark.parametrize(
    ("recipe", "said", "unsaid"),
    [
        ({"snapshot": "best"}, "step 7, chosen by validation loss", "the last one"),
        ({"snapshot": "last"}, "step 7, the last one", "validation loss"),
        ({"selection": "all"}, "Equal and nearly equal texts stand in one part", "several parts"),
        ({"selection": "book"}, "Equal texts may stand in several parts", "in one part"),
    ],
)
def test_snapshot_and_split_are_those_of_the_recipe(
    recipe: dict[str, str], said: str, unsaid: str, tmp_path: Path
) -> None:
    text = card(tmp_path, TrainConfig.model_validate(recipe), {})
    assert said in text
    assert unsaid not in text


def test_counts_and_cutoffs_stand_under_their_own_names(tmp_path: Path) -> None:
    cutoffs = {"ham_below": 0.1, "spam_from": 0.6, "blocks_0_1_percent": 0.9}
    facts = facts_of(cutoffs | {"blocks_1_percent": 0.4})
    counts = {"train": {"ham": 70, "spam": 30}, "validation": {"ham": 8, "spam": 2}}
    text = card(tmp_path, TrainConfig(), {}, facts=facts, counts=counts)
    assert (
        "| part | ham | spam |\n|---|---|---|\n| train | 70 | 30 |\n| validation | 8 | 2 |\n"
        in text
    )
    assert "The validation part has 8 ham. Below 598 the cut-off for spam lies beyond" in text
    assert "The validation part has" not in card(tmp_path, TrainConfig(), {})
    for row in (
        "| ham below | 0.1000 |",
        "| spam from | 0.6000 |",
        "| 0.1 % of ham from | 0.9000 |",
        "| 1 % of ham from | 0.4000 |",
    ):
        assert row in text


@pytest.mark.parametrize(("ham", "spam"), [(0.5, 0.5), (0.99, 0.4), (0.49, 1.0), (0.0, 0.0)])
def test_how_much_the_cutoffs_decide_is_told(ham: float, spam: float, tmp_path: Path) -> None:
    cutoffs = {"ham_below": 0.00004, "spam_from": 0.9995, "blocks_0_1_percent": 0.99996}
    facts = facts_of(cutoffs | {"blocks_1_percent": 1}, ham, spam)
    text = card(tmp_path, TrainConfig(), {}, facts=facts)
    for row in ("| spam from | 0.99950 |", "| 0.1 % of ham from | 0.999960 |", "| 1.0000 |"):
        assert row in text
    assert (
        f"Of the validation part's 2 spam {spam:.1%} lie at or above `spam_from`, 0.99950, of its "
        f"598 ham {ham:.1%} below `ham_below`, 0.000040.\n"
    ) in text
    told = [
        name for name in ("ham", "spam") if f"Warning: most {name} would not be called so." in text
    ]
    assert told == [name for name, share in (("ham", ham), ("spam", spam)) if share < 0.5]


def test_a_record_is_of_the_run_that_was_made() -> None:
    snapshot = Snapshot(7, 0.25)
    outcome = Outcome(History(), snapshot, 12.34, 56.78, interrupted=True)
    splits = Splits([Example("a", 1, "x")] * 3, [Example("b", 0, "x")], [])
    record = RunRecord.of(splits, outcome, {}, {}, {"x": "1"}, [{"seed": 1}])
    assert (record.best_step, record.best_validation_loss) == (7, 0.25)
    assert (record.training_seconds, record.examples_per_second) == (12.3, 56.8)
    assert record.counts["train"] == {"ham": 0, "spam": 3}
    assert (record.interrupted, record.is_average) == (True, False)


def test_what_became_of_a_training_is_told(tmp_path: Path) -> None:
    best_of_two = card(tmp_path, TrainConfig(seed=5), {}, seeds=[{}, {}], interrupted=True)
    assert "training seed 5, the best of 2 by validation loss." in best_of_two
    assert "validation loss), of a training that was interrupted, " in best_of_two
    mean = card(tmp_path, TrainConfig(), {}, seeds=[{"seed": 1}], interrupted=True, is_average=True)
    assert "(`training.average`), some interrupted" in mean
    padded = card(tmp_path, TrainConfig(selection="book", padding="longest"), {}, seeds=[{}])
    assert "texts cut after as many tokens as the longest of the training part has" in padded
    assert "best of" not in padded
    assert "interrupted" not in padded


def test_all_seeds_of_an_average_are_told(tmp_path: Path) -> None:
    seeds = [{"seed": 3}, {"seed": 11}]
    text = card(tmp_path, TrainConfig(), {}, seeds=seeds, is_average=True)
    assert "training seeds 3, 11." in text
    assert "the average of the 2 runs' weights" in text
    assert "made by `python -m training.average` of spamgate of runs from\n" in text
    assert "training.finetune" not in text
    assert "made by `python -m training.finetune` of spamgate from\n" in card(
        tmp_path, TrainConfig(), {}
    )


def test_what_a_recipe_leaves_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(b"lessons")
    monkeypatch.setattr("training.card.num_processes", lambda: 2)
    config = TrainConfig(
        base="random", trained="all", distillation=1.0, prefix_loss=0.5, teacher=str(teacher)
    )
    assert circumstances(config, CPU) == {
        "base_sha256": None,
        "base_run": {},
        "teacher_sha256": sha256_of(teacher),
        "device": "cpu",
        "precision": chosen_precision("auto", CPU),
        "processes": 2,
    }


def test_what_is_read_and_who_takes_it_is_told(tmp_path: Path) -> None:
    text = card(tmp_path, TrainConfig(), {}, has_table=True)
    assert "read at each text's last token, and a table of n-grams" in text
    assert "goes by the first two" in text
    assert "long texts read in windows,\n" in text
    assert "\n`openai-community/gpt2`; trained part: last_block;" in text
    text = card(tmp_path, TrainConfig(read_token="mean", base="random"), {})
    assert "read at the mean of each text's tokens.\n" in text
    assert "the service does not take this checkpoint" in text
    assert "\nrandom weights; trained part: last_block;" in text
    text = card(tmp_path, TrainConfig(random_weights=True), {})
    assert "\nrandom weights of the sizes of `openai-community/gpt2`; trained part:" in text
    text = card(tmp_path, TrainConfig(base="random", random_weights=True), {})
    assert "\nrandom weights; trained part: last_block;" in text
    text = card(tmp_path, TrainConfig(padding="context", max_tokens=120), {})
    assert "last token, with the padding that the training had.\n" in text
    assert "texts cut after 120 tokens,\n" in text
