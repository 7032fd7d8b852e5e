"""spamgate beside bag-of-words models."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.fold import fold_text
from model.gpt2 import LABELS
from tests.tiny_training import on_base
from training import compare, finetune
from training.config import ConfigError, CorpusError, TrainConfig, load_config
from training.corpora import Example, read_corpora, read_sms, sha256_of
from training.data import Splits, split_examples
from training.evaluate import measure
from training.foreign import read_foreign, unlike
from training.measuring import TrainedClassifier
from training.run import finetune as finetune_once

KEPT = 'distillation = 1.0\nprefix_loss = 0.5\nteacher = "runs/teacher.safetensors"\n'
SYSTEMS = {"spamgate", "TF-IDF + linear SVM", "TF-IDF + logistic regression"}


def test_compare_judges_all_systems_on_the_same_texts(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "compare.json"
    arguments = [str(recipe), "--data", str(corpus), "--seeds", "2", "--epochs", "1"]
    assert compare.main([*arguments, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    expected = "training.compare tiny.toml --data sms=SMSSpamCollection --seeds 2 --epochs 1"
    assert report["command"] == f"python -m {expected}"
    assert set(report["versions"]) == {"python", "torch", "numpy", "scikit-learn"}
    assert set(report["runs"]) == {"sms"}
    assert set(report["runs"]["sms"]) == SYSTEMS
    for runs in report["runs"]["sms"].values():
        assert len(runs) == 2
        assert {run["texts"] for run in runs} == {30}


def test_only_from_random_weights_each_seed_draws_a_split_of_its_own(
    corpus: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other base may have read the texts that another split tests by."""
    drawn: list[tuple[int, int]] = []
    learnt_from: list[Splits] = []

    def train(config: TrainConfig, *_: object) -> compare.Score:
        drawn.append((config.seed, config.split_seed))
        return lambda texts: [0.5] * len(texts)

    def fit(splits: Splits, seed: int) -> dict[str, compare.Score]:
        learnt_from.append(splits)
        return {}

    monkeypatch.setattr(compare, "_train", train)
    monkeypatch.setattr(compare, "fit_baselines", fit)
    for base, splits in (("random", [5, 6]), ("elsewhere", [123])):
        config = load_config(recipe, base=base)
        examples = read_sms(corpus)
        compare.compare(config, examples, [5, 6], torch.device("cpu"))
        configs = [config.model_copy(update={"split_seed": split}) for split in splits]
        assert drawn == [(5, splits[0]), (6, splits[-1])]
        assert learnt_from == [split_examples(examples, config) for config in configs]
        drawn.clear()
        learnt_from.clear()


def test_table_shows_mean_and_deviation() -> None:
    runs = [measure([0, 1], scores) for scores in ([0.1, 0.9], [0.9, 0.1])]
    table = compare.as_table(compare.summarize({"sms": {"spamgate": runs}}))
    assert "| sms | spamgate | 0.0000 ± 1.4142 | 0.5000 ± 0.7071 |" in table
    of_one = compare.as_table(compare.summarize({"sms": {"spamgate": runs[:1]}}))
    assert "| sms | spamgate | 1.0000 | 1.0000 |" in of_one
    assert len({line.count("|") for line in f"{table}\n{of_one}".splitlines()}) == 1


def test_no_foreign_text_to_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="--sample is -5: at least 1"):
        read_foreign([], -5, [])


def test_what_is_left_out_and_what_is_foreign_is_judged_but_not_trained_on(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    other, foreign = tmp_path / "comments.jsonl", tmp_path / "foreign.jsonl"
    rows = [
        {"label": label, "text": f"{label} {number * 7919} {number * 104729} {number}"}
        for number in range(80)
        for label in ("ham", "spam")
    ]
    other.write_text("\n".join(map(json.dumps, rows[:120])))
    foreign.write_text("\n".join(map(json.dumps, rows[100:])))  # the first 20 are known
    two = tmp_path / "two.toml"
    one_epoch = recipe.read_text().replace("epochs = 2", "epochs = 1")
    two.write_text('corpora = ["sms", "jsonl"]\n' + one_epoch)
    out = tmp_path / "left-out.json"
    arguments = [str(two), "--data", f"sms={corpus}", "--data", f"jsonl={other}", "--leave-out"]
    arguments += ["--foreign", f"jsonl={foreign}", "--sample", "60", "--out", str(out)]
    assert compare.main(arguments) == 0
    report = json.loads(out.read_text())
    expected = "--leave-out --foreign jsonl=foreign.jsonl --sample 60"
    data = "--data sms=SMSSpamCollection --data jsonl=comments.jsonl"
    assert report["command"] == f"python -m training.compare two.toml {data} {expected}"
    runs = report["runs"]
    assert set(runs) == {
        "comments",
        "sms",
        "foreign (without comments)",
        "foreign (without sms)",
    }
    assert all(set(systems) == SYSTEMS for systems in runs.values())
    assert runs["foreign (without sms)"]["spamgate"][0]["texts"] == 40
    # Labels are in the words: seen in training they are easy, and unseen they are not.
    own = runs["foreign (without sms)"]["TF-IDF + linear SVM"][0]
    left_out = runs["foreign (without comments)"]["TF-IDF + linear SVM"][0]
    assert own["roc_auc"] == 1
    assert left_out["roc_auc"] < 1


@pytest.mark.parametrize(
    "extra", ["", 'selection = "book"\npadding = "longest"\n', 'read_token = "mean"\n']
)
def test_a_finished_checkpoint_is_judged_as_it_was_when_it_was_trained(
    extra: str, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("epochs = 2", "epochs = 1") + extra)
    run, out = tmp_path / "run", tmp_path / "judged.json"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(run)]) == 0
    arguments = [str(recipe), "--data", str(corpus), "--checkpoint", str(run), "--out", str(out)]
    arguments += ["--checkpoint", str(run)]
    assert compare.main(arguments) == 0
    report = json.loads(out.read_text())
    assert [told["place"] for told in report["checkpoints"]] == ["run", "run"]
    judged, again = report["runs"]["sms"]["spamgate"]
    assert again == judged
    assert judged == pytest.approx(json.loads((run / "run.json").read_text())["metrics"]["test"])


def test_a_checkpoint_that_reads_another_token_is_refused(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, plain = tmp_path / "run", recipe.read_text()
    flags = ["--data", str(corpus), "--epochs", "1", "--out", str(run)]
    recipe.write_text(plain + 'padding = "longest"\n')
    assert finetune.main([str(recipe), *flags]) == 0
    recipe.write_text(plain)
    assert compare.main([str(recipe), "--data", str(corpus), "--checkpoint", str(run)]) == 2
    assert "and by this recipe it would read last" in capsys.readouterr().err


def test_foreign_texts_do_not_stand_in_for_the_test_part(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    foreign, out = tmp_path / "foreign", tmp_path / "compare.json"
    lines = [
        f"{label}\t{label} {number * 7919} {number * 104729} {number}"
        for label in ("ham", "spam")  # in order: the first are no sample
        for number in range(30)
    ]
    foreign.write_text("\n".join(lines))
    arguments = [str(recipe), "--data", str(corpus), "--foreign", f"sms={foreign}", "--seeds", "1"]
    assert compare.main([*arguments, "--sample", "20", "--epochs", "1", "--out", str(out)]) == 0
    runs = json.loads(out.read_text())["runs"]
    texts = {name: systems["spamgate"][0]["texts"] for name, systems in runs.items()}
    assert texts == {"sms": 30, "sms (foreign)": 20}


def test_what_gives_no_figures_is_refused_before_the_training(
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compare, "finetune", None)
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"label": "spam", "text": "something else altogether"}\n')
    arguments = [str(recipe), "--data", str(corpus)]
    assert compare.main([*arguments, "--foreign", f"jsonl={foreign}"]) == 2
    told = capsys.readouterr()
    assert "foreign: 1 of 1 texts" in told.out
    assert "the 1 texts of foreign to judge by are all ham or all spam" in told.err
    for flags, message in ((["--seeds", "0"], "at least 1"), (["--leave-out"], "two corpora")):
        assert compare.main([*arguments, *flags]) == 2
        assert message in capsys.readouterr().err
    assert compare.main([*arguments, "--out", str(foreign / "compare.json")]) == 2
    assert "cannot read or write" in capsys.readouterr().err
    assert compare.main([*arguments, "--out", str(tmp_path)]) == 2
    assert "is a folder, where a file is to be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--checkpoint", "run", "--leave-out"], "--checkpoint trains nothing: leave out --leave"),
        (
            ["--checkpoint", "run", "--seeds", "0", "--epochs", "7"],
            "leave out --seeds and --epochs",
        ),
        (["--checkpoint", "run", "--teacher", "file"], "leave out --teacher"),
        (["--leave-out", "--seeds", "2"], "the recipe's seed alone: leave out --seeds"),
        (["--teacher", "missing"], "missing"),
    ],
)
def test_what_an_option_leaves_without_a_meaning_is_refused(
    flags: list[str],
    problem: str,
    corpus: Path,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(compare, "read_corpora", None)
    recipe.write_text(recipe.read_text() + KEPT)
    assert compare.main([str(recipe), "--data", str(corpus), *flags]) == 2
    assert problem in capsys.readouterr().err


def test_what_was_compared_is_told_without_the_folders_of_this_machine(
    corpus: Path, recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, extra, out = (tmp_path / name for name in ("lessons", "extra.jsonl", "compare.json"))
    teacher.write_bytes(b"lessons")
    extra.write_text('{"label": "ham", "text": "something else altogether"}\n')
    recipe.write_text(on_base(recipe.read_text(), tiny_base) + KEPT)
    recipe.write_text(recipe.read_text() + f'training_only = ["{extra}"]\n')
    monkeypatch.setattr(compare, "Lessons", lambda _: None)
    monkeypatch.setattr(compare, "compare", lambda *_: {})
    arguments = [str(recipe), "--data", str(corpus), "--teacher", str(teacher), "--out", str(out)]
    assert compare.main(arguments) == 0
    told = json.loads(out.read_text())
    assert told["command"].endswith("--seeds 5 --teacher lessons")
    assert told["teacher_sha256"] == sha256_of(teacher)
    named = {key: told["recipe"][key] for key in ("base", "teacher", "training_only")}
    assert named == {"base": "base", "teacher": "lessons", "training_only": ["extra.jsonl"]}
    assert str(tmp_path) not in out.read_text()


def test_ctrl_c_in_a_training_ends_the_comparison(
    corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "compare.json"

    def interrupted(*arguments: object) -> TrainedClassifier:
        run = finetune_once(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(run, outcome=dataclasses.replace(run.outcome, interrupted=True))

    monkeypatch.setattr(compare, "finetune", interrupted)
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1", "--out", str(out)]
    assert compare.main(arguments) == 130
    assert not out.exists()


def test_corpora_other_than_the_recipes_are_refused(
    corpus: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([str(recipe), "--data", f"jsonl={corpus}"]) == 2
    assert "this recipe is for sms" in capsys.readouterr().err


def test_foreign_texts_without_labels_are_refused(
    corpus: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recipe), "--data", str(corpus), "--foreign", f"text={corpus}"]
    assert compare.main(arguments) == 2
    assert "has no labels" in capsys.readouterr().err


def test_foreign_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        rows = [{"label": label, "text": f"{folder} {label}"} for label in ("ham", "spam")]
        (tmp_path / folder / "mail.jsonl").write_text("\n".join(map(json.dumps, rows)))
    places = [f"jsonl={tmp_path / folder / 'mail.jsonl'}" for folder in ("one", "two")]
    with pytest.raises(CorpusError, match="two corpora are named mail"):
        read_foreign(places, 9, [])


def test_what_is_left_out_is_left_out_of_what_nearly_equals_it_too(
    corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [
        {"label": LABELS[example.label], "text": f"{example.text} "} for example in read_sms(corpus)
    ]
    others = [{"label": x, "text": f"{x} {n * 7919}"} for n in range(60) for x in LABELS]
    (tmp_path / "copies.jsonl").write_text("\n".join(map(json.dumps, copies)))
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, others)))
    two = tmp_path / "two.toml"
    whole = f'training_only = ["{tmp_path / "copies.jsonl"}"]\n'
    two.write_text('corpora = ["sms", "jsonl"]\n' + whole + recipe.read_text())
    config = load_config(two)
    read = read_corpora([f"sms={corpus}", f"jsonl={tmp_path / 'other.jsonl'}"], config).examples
    learnt: list[set[str]] = []

    def train(config: TrainConfig, examples: Sequence[Example], _: object) -> Any:
        learnt.append({fold_text(example.text) for example in examples})
        return lambda texts: [0.5] * len(texts)

    monkeypatch.setattr(compare, "_train", train)
    compare.leave_out(config, read, torch.device("cpu"))
    test = split_examples(read, config).test
    tested = {fold_text(e.text) for e in test if e.source == "sms"}
    assert tested
    assert not learnt[1] & tested  # without sms; its other texts may be learnt
    assert learnt[1] & {fold_text(row["text"]) for row in copies}


def test_texts_that_differ_in_marks_alone_are_left_out_as_they_are_in_a_split() -> None:
    known = [
        Example("I don't know, call me tonight", 0, "a"),
        Example("U won! WIN to 80082", 1, "a"),
    ]
    texts = [
        "i dont know call me tonight",
        "U won!! WIN to 80-082",
        "See you at the station at six",
    ]
    kept = unlike([Example(text, 0, "b") for text in texts], known)
    assert [example.text for example in kept] == texts[2:]


def test_what_is_judged_is_read_once_and_with_letters_made_plain(recipe: Path) -> None:
    texts = ["Win c\u0430sh", "Win cash", "Lunch?", "Are we on?"]
    foreign = [Example(text, int("Win" in text), "far") for text in texts]
    tests = compare._tests(load_config(recipe), [], foreign)
    assert [example.text for example in tests["far"]] == ["Win cash", "Lunch?", "Are we on?"]


def test_a_finished_checkpoint_is_judged_beside_what_has_learnt_as_much(
    save_tiny: Callable[..., Path],
    corpus: Path,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learnt_from: list[Splits] = []

    def fit(splits: Splits, seed: int) -> dict[str, compare.Score]:
        learnt_from.append(splits)
        return {}

    monkeypatch.setattr(compare, "fit_baselines", fit)
    config, examples = load_config(recipe), read_sms(corpus)
    compare.judge([str(save_tiny())], config, examples, torch.device("cpu"))
    assert learnt_from == [split_examples(examples, config)]
