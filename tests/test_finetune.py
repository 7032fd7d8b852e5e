"""Fine-tuning from the command line."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from model.checkpoint import load_classifier, save_language_model
from model.classifier import Classifier
from model.gpt2 import GPT2Config, GPT2LMHeadModel, init_weights
from model.packing import pack
from tests.tiny_training import TINY_RECIPE
from training import compare, evaluate, finetune, loop, measuring, run
from training.config import TrainConfig, load_config
from training.corpora import (
    read_sms,
    sha256_of,
)
from training.data import (
    split_examples,
)
from training.measuring import TrainedClassifier
from training.provenance import read_run
from training.run import finetune as finetune_once

CONFIGS = Path(__file__).parents[1] / "training" / "configs"


def test_run_writes_a_checkpoint_that_the_service_takes(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "3", "--out", str(out)]
    assert finetune.main(arguments) == 0
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "accuracy.png",
        "config.json",
        "golden.json",
        "loss.png",
        "merges.txt",
        "model.safetensors",
        "run.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    assert (out / "model.safetensors").stat().st_mode & 0o444 == 0o444
    classifier = Classifier.load(out, "cpu")
    verdicts = classifier.classify(["win prize train rain", "see you at home"])
    assert [verdict.label for verdict in verdicts] == ["spam", "ham"]
    facts = json.loads((out / "run.json").read_text())
    assert facts["recipe"]["epochs"] == 3
    assert facts["data_sha256"] == {"SMSSpamCollection": sha256_of(corpus)}
    assert facts["metrics"]["test"]["mcc"] > 0.9
    told = f"spam {facts['decided']['spam']:.1%} lie at or above `spam_from`, "
    printed = capsys.readouterr().out
    assert told in printed
    assert told in (out / "README.md").read_text()
    assert f"saved to {out}" in printed
    assert finetune.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_metrics_of_a_run_are_those_of_the_saved_file(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(TINY_RECIPE + 'storage_dtype = "bfloat16"\n')
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    facts = json.loads((out / "run.json").read_text())
    splits = split_examples(read_sms(corpus), load_config(recipe))
    texts = [example.text for example in splits.test]
    found = evaluate.spam_probabilities(Classifier.load(out, "cpu"), texts)
    again = evaluate.measure([example.label for example in splits.test], found)
    assert again.loss == pytest.approx(facts["metrics"]["test"]["loss"], abs=1e-6)


def test_same_seed_gives_the_same_weights(corpus: Path, recipe: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("a", "b", "c")]
    for out, seed in zip(outs, ("1", "1", "2"), strict=True):
        arguments = [str(recipe), "--data", str(corpus), "--out", str(out), "--seed", seed]
        assert finetune.main([*arguments, "--epochs", "1"]) == 0
    weights = [load_classifier(out).model.score.weight for out in outs]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_of_several_seeds_the_best_by_validation_is_kept_and_all_are_told(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, alone = tmp_path / "run", tmp_path / "alone"
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1"]
    assert finetune.main([*arguments, "--out", str(out), "--seed", "5", "--seeds", "3"]) == 0
    facts = json.loads((out / "run.json").read_text())
    losses = {result["seed"]: result["validation_loss"] for result in facts["seeds"]}
    assert list(losses) == [5, 6, 7]
    best = min(losses, key=lambda seed: losses[seed])
    assert facts["recipe"]["seed"] == best
    assert facts["best_validation_loss"] == losses[best]
    printed = capsys.readouterr().out
    assert all(f"| {seed} | " in printed for seed in losses)
    assert f"kept seed {best}" in printed
    assert finetune.main([*arguments, "--out", str(alone), "--seed", str(best)]) == 0
    weights = [load_classifier(folder).model.score.weight for folder in (out, alone)]
    assert weights[0].equal(weights[1])
    assert finetune.main([*arguments, "--out", str(tmp_path / "none"), "--seeds", "0"]) == 2
    assert "--seeds is 0" in capsys.readouterr().err


@pytest.mark.parametrize("command", [finetune.main, compare.main])
def test_seeds_that_read_other_texts_each_are_not_trained_at_once(
    command: Callable[[list[str]], int],
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    extra = tmp_path / "extra.jsonl"
    extra.write_text('{"label": "ham", "text": "something else altogether"}\n' * 8)
    recipe.write_text(recipe.read_text() + f'replay = ["{extra}"]\n')
    arguments = [str(recipe), "--data", str(corpus), "--seeds", "2", "--out", str(tmp_path / "run")]
    assert command(arguments) == 2
    assert "not 2 seeds at once, but one by one" in capsys.readouterr().err


def test_a_base_that_has_learnt_from_the_test_part_is_refused(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", str(corpus), "--epochs", "1", "--out"]
    assert finetune.main([str(recipe), *flags, str(tmp_path / "one")]) == 0
    recipe.write_text(recipe.read_text() + "keep_head = true\nsplit_seed = 9\n")
    flags = ["--base", str(tmp_path / "one"), *flags, str(tmp_path / "two")]
    assert finetune.main([str(recipe), *flags]) == 2
    assert "was trained with split_seed = 123 on texts that this" in capsys.readouterr().err
    recipe.write_text(recipe.read_text().replace("split_seed = 9", "split_seed = 123"))
    assert finetune.main([str(recipe), *flags]) == 0


@pytest.mark.parametrize("trained_already", [True, False])
def test_ctrl_c_in_a_seed_that_is_not_kept_is_told_too(
    trained_already: bool,
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt_the_second(config: TrainConfig, *rest: object) -> TrainedClassifier:
        run = finetune_once(config, *rest)  # type: ignore[arg-type]
        if config.seed == 5:
            return run
        if not trained_already:
            raise KeyboardInterrupt
        worse = dataclasses.replace(run.outcome.snapshot, validation_loss=9.0)
        outcome = dataclasses.replace(run.outcome, snapshot=worse, interrupted=True)
        return dataclasses.replace(run, outcome=outcome)

    monkeypatch.setattr("training.seeds.finetune", interrupt_the_second)
    flags = ["--epochs", "1", "--seed", "5", "--seeds", "3", "--out", str(tmp_path / "run")]
    assert finetune.main([str(recipe), "--data", str(corpus), *flags]) == 130
    printed = capsys.readouterr().out
    assert "kept seed 5" in printed
    assert "(interrupted)" in printed
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    told = [seed["interrupted"] for seed in facts["seeds"]]
    assert told == ([False, True] if trained_already else [False])


@pytest.mark.parametrize("name", ["book_last_block", "gpt2_all_layers"])
def test_pretrained_recipes_run_from_a_base_folder(
    name: str, corpus: Path, tiny_base: Path, tmp_path: Path
) -> None:
    text = (CONFIGS / f"{name}.toml").read_text().replace("7d039a24", "") + "\n"
    sha = load_config(CONFIGS / f"{name}.toml").data_sha256
    (tmp_path / "r.toml").write_text(text.replace(sha.removeprefix("7d039a24"), ""))
    out = tmp_path / "run"
    arguments = [str(tmp_path / "r.toml"), "--data", str(corpus), "--base", str(tiny_base)]
    assert finetune.main([*arguments, "--out", str(out), "--epochs", "1"]) == 0
    read_token = load_classifier(out).read_token
    assert read_token == "last" if name.startswith("gpt2") else isinstance(read_token, int)


def test_head_alone_leaves_the_base_as_it_was(
    corpus: Path, tiny_base: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "head.toml"
    recipe.write_text(f'base = "{tiny_base}"\ntrained = "head"\nepochs = 1\n')
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    base = load_classifier(out).model.transformer.wte.weight
    from model.checkpoint import load_base

    assert base.equal(load_base(tiny_base).wte.weight)
    again = tmp_path / "again"
    recipe.write_text(f'base = "{out}"\ntrained = "head"\nprecision = "float32"\n')
    arguments = [str(recipe), "--data", str(corpus), "--out", str(again), "--epochs", "1"]
    assert finetune.main([*arguments, "--device", "cpu"]) == 0
    facts = json.loads((again / "run.json").read_text())
    assert facts["base_sha256"] == load_classifier(out).sha256
    assert facts["teacher_sha256"] is None
    assert (facts["device"], facts["precision"], facts["processes"]) == ("cpu", "float32", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.toml"], "cannot read the recipe"),
        (["{recipe}", "--data", "absent"], "cannot read the corpus"),
        (["{recipe}", "--data", "{corpus}", "--device", "nonsense"], "device 'nonsense'"),
        (["{recipe}", "--data", "{corpus}", "--base", "absent"], "no checkpoint folder at absent"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_one_line(
    arguments: list[str],
    message: str,
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    filled = [argument.format(recipe=recipe, corpus=corpus) for argument in arguments]
    assert finetune.main([*filled, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_place_that_takes_no_run_is_found_before_the_training(
    corpus: Path,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.seeds.finetune", None)
    arguments = [str(recipe), "--data", str(corpus), "--out", str(corpus / "run")]
    assert finetune.main(arguments) == 2
    assert "cannot read or write" in capsys.readouterr().err


@pytest.fixture
def ctrl_c_counts() -> Iterator[None]:
    """A test run that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_counts")
def test_ctrl_c_keeps_the_best_snapshot_and_says_where(
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(_: object, line: str) -> None:
        if line.startswith("epoch "):
            monkeypatch.setattr("training.loop.tqdm.write", lambda *_: None)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("training.loop.tqdm.write", write)
    out = tmp_path / "run"
    arguments = [str(recipe), "--data", str(corpus), "--out", str(out), "--epochs", "100000"]
    assert finetune.main(arguments) == 130
    assert f"saved to {out} (interrupted)" in capsys.readouterr().out
    Classifier.load(out, "cpu")
    assert json.loads((out / "run.json").read_text())["interrupted"] is True


def press(times: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """This work, with Ctrl-C pressed so many times before it is done for the first time."""
    pressed = [signal.SIGINT] * times

    def done(*arguments: object, **options: object) -> Any:
        while pressed:
            signal.raise_signal(pressed.pop())
        return work(*arguments, **options)

    return done


@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.parametrize(
    ("module", "name"),
    [(measuring, "fit_calibration"), (measuring, "measure"), (finetune, "store_golden")],
)
def test_ctrl_c_after_the_training_keeps_the_run_and_starts_no_other(
    module: ModuleType,
    name: str,
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe.write_text(TINY_RECIPE + "calibrate = true\n")
    monkeypatch.setattr(module, name, press(1, getattr(module, name)))
    out = tmp_path / "run"
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1", "--out", str(out)]
    assert finetune.main([*arguments, "--seeds", "3" if module is run else "1"]) == 130
    printed = capsys.readouterr().out
    assert "the run is being measured and saved" in printed
    assert f"saved to {out} (interrupted)" in printed
    facts = json.loads((out / "run.json").read_text())
    assert len(facts["seeds"]) == 1
    assert facts["interrupted"] is False  # it was trained to the end
    Classifier.load(out, "cpu")


@pytest.mark.usefixtures("ctrl_c_counts")
def test_ctrl_c_twice_after_the_training_ends_it(
    corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "measure", press(2, evaluate.measure))
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1"]
    assert finetune.main([*arguments, "--out", str(tmp_path / "run")]) == 130
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("ctrl_c_counts")
def test_ctrl_c_in_the_training_and_after_it_keeps_the_run(
    corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Trainer, "print_accuracies", press(1, lambda *_: None))
    monkeypatch.setattr(loop.Snapshot, "restore", press(1, loop.Snapshot.restore))
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1"]
    assert finetune.main([*arguments, "--out", str(tmp_path / "run")]) == 130
    assert json.loads((tmp_path / "run" / "run.json").read_text())["interrupted"] is True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["book_last_block", "book_all_layers"])
def test_book_recipes_run_on_124m_random_weights(name: str, sms_file: Path, tmp_path: Path) -> None:
    """Real sizes, form, data and recipes; one epoch of the five."""
    config = GPT2Config()
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    init_weights(model, config)
    base = tmp_path / "gpt2"
    base.mkdir()
    save_language_model(base, model)
    out = tmp_path / "run"
    arguments = [str(CONFIGS / f"{name}.toml"), "--data", str(sms_file), "--base", str(base)]
    assert finetune.main([*arguments, "--out", str(out), "--epochs", "1"]) == 0
    checkpoint = load_classifier(out)
    assert checkpoint.read_token == 119
    with torch.no_grad():
        assert checkpoint.model(pack([[1] * 120])).isfinite().all()


def test_names_of_files_need_not_be_utf8(
    corpus: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9")
    data = corpus.rename(tmp_path / name)
    flags = [str(recipe), "--data", str(data), "--epochs", "1", "--out"]
    assert finetune.main([*flags, str(tmp_path / "out" / name)]) == 2
    assert "is no place for safetensors: it is not UTF-8" in capsys.readouterr().err
    assert finetune.main([*flags, str(tmp_path / "run")]) == 0
    assert list(read_run(str(tmp_path / "run"))["data_sha256"]) == [name]
