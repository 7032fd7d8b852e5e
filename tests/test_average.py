"""The average of several runs is one checkpoint like any other."""

import dataclasses
import functools
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.folders import CheckpointError
from tests.conftest import save_random_base
from tests.tiny_training import TINY_RECIPE, on_base, synthetic_lines
from training import average, finetune
from training.config import CorpusError, TrainConfig
from training.corpora import Source, read_sms
from training.data import split_examples
from training.evaluate import measure, spam_probabilities
from training.provenance import check_foreign, lineage

Run = Callable[..., Path]
"""Trains a recipe with a seed; the checkpoint folder, of the name given."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Path]:
    """Trains each recipe with each seed once for all tests, on one base where it is of the usual
    size; they get copies."""
    folder = tmp_path_factory.mktemp("trained")
    save_random_base(base := folder / "base")
    corpus, path = folder / "SMSSpamCollection", folder / "tiny.toml"
    corpus.write_text("\n".join(synthetic_lines()) + "\n")

    @functools.cache
    def train(seed: int, recipe: str) -> Path:
        path.write_text(on_base(recipe, base))
        out = tmp_path_factory.mktemp("run") / "run"
        flags = ["--data", str(corpus), "--out", str(out), "--seed", str(seed), "--epochs", "1"]
        assert finetune.main([str(path), *flags]) == 0
        return out

    return train


@pytest.fixture
def run(trained: Callable[[int, str], Path], tmp_path: Path) -> Run:
    def copy(name: str, seed: int = 1, recipe: str = TINY_RECIPE) -> Path:
        return shutil.copytree(trained(seed, recipe), tmp_path / name)

    return copy


def test_average_has_the_mean_weights_and_figures_of_its_own(
    run: Run, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(f"run{seed}", seed) for seed in (1, 2)]
    out = tmp_path / "average"
    arguments = [*map(str, runs), "--data", str(corpus), "--out", str(out)]
    capsys.readouterr()
    assert average.main(arguments) == 0
    states = [load_classifier(folder).model.state_dict() for folder in (*runs, out)]
    for name, tensor in states[2].items():
        torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)
    facts = json.loads((out / "run.json").read_text())
    assert [told["seed"] for told in facts["seeds"]] == [1, 2]
    parts = [json.loads((folder / "run.json").read_text()) for folder in runs]
    assert facts["training_seconds"] == pytest.approx(
        sum(part["training_seconds"] for part in parts), abs=0.05
    )
    assert facts["examples_per_second"] == pytest.approx(
        sum(part["examples_per_second"] for part in parts) / 2, abs=0.06
    )
    for told, part in zip(facts["seeds"], parts, strict=True):
        assert told["mcc"] == {name: metrics["mcc"] for name, metrics in part["metrics"].items()}
    assert facts["best_step"] == max(part["best_step"] for part in parts)
    assert facts["best_validation_loss"] == facts["metrics"]["validation"]["loss"]
    assert "average of the 2 runs" in (out / "README.md").read_text()
    assert " lie at or above `spam_from`, " in capsys.readouterr().out
    assert Classifier.load(out, "cpu").golden
    again = tmp_path / "again"
    twice = [str(out), str(runs[0]), str(runs[0]), "--data", str(corpus), "--out", str(again)]
    assert average.main(twice) == 0
    states.append(load_classifier(again).model.state_dict())
    for name, tensor in states[3].items():
        torch.testing.assert_close(tensor, (states[2][name] + 2 * states[0][name]) / 3)
    told = json.loads((again / "run.json").read_text())["seeds"]
    weights = [(part["seed"], part["weight"]) for part in told]
    assert weights == [
        (1, pytest.approx(1 / 6)),
        (2, pytest.approx(1 / 6)),
        (1, pytest.approx(2 / 3)),
    ]
    assert average.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_runs_that_have_no_average_are_refused(
    run: Run, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run("one")
    other = run("other", recipe=TINY_RECIPE + "split_seed = 9\n")
    wide = run("wide", recipe=TINY_RECIPE.replace("n_embd = 32", "n_embd = 64"))
    flags = ["--data", str(corpus), "--out", str(tmp_path / "average")]
    for others, message in (
        ((), "at least two runs"),
        ((other,), "split_seed = 9"),
        ((wide,), "another size"),
    ):
        assert average.main([str(one), *map(str, others), *flags]) == 2
        assert message in capsys.readouterr().err
    for folder, weights in ((one, "1" * 64), (run("two", 2), "2" * 64)):
        facts = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(facts | {"base_sha256": weights}))
    assert average.main([str(one), str(tmp_path / "two"), *flags]) == 2
    assert "began with different weights, of " in capsys.readouterr().err
    more = tmp_path / "more"
    more.write_text(corpus.read_text() + "ham\tone more\n")
    arguments = [str(one), str(one), "--data", str(more), "--out", str(tmp_path / "average")]
    assert average.main(arguments) == 2
    assert "one was made from SMSSpamCollection (SHA-256 " in capsys.readouterr().err
    facts = json.loads((one / "run.json").read_text())
    facts["recipe"]["of_old"] = 1
    (one / "run.json").write_text(json.dumps(facts))
    assert average.main([str(other), str(one), *flags]) == 2
    error = capsys.readouterr().err
    assert "not of this version of training.finetune: recipe.of_old: Extra inputs" in error
    (one / "run.json").unlink()
    assert average.main([str(other), str(one), *flags]) == 2
    assert "no run.json" in capsys.readouterr().err
    assert not (tmp_path / "average").exists()


def test_runs_that_drew_their_first_weights_have_no_average(run: Run) -> None:
    recipe = TINY_RECIPE.replace("n_head = 4", "n_head = 2")
    one, two = (load_classifier(run(f"run{seed}", seed, recipe)) for seed in (1, 2))
    with pytest.raises(CheckpointError, match="different weights, of random, drawn by different"):
        average.average_runs([one, two])
    average.average_runs([one, one])
    from_nothing = [
        dataclasses.replace(r, run=r.run | {"recipe": r.run["recipe"] | drawn})
        for r in (one, two)
        for drawn in [{"base": "runs/base", "random_weights": True}]
    ]
    with pytest.raises(CheckpointError, match="of runs/base, drawn by different seeds"):
        average.average_runs(from_nothing)


def test_only_runs_on_one_split_that_read_alike_are_averaged(run: Run) -> None:
    first = load_classifier(run("first"))
    others: dict[str, object] = {
        "corpora": ["jsonl"],
        "data_sha256": "1" * 64,
        "selection": "book",
        "train_fraction": 0.6,
        "validation_fraction": 0.2,
        "max_tokens": 99,
        "read_token": "mean",
        "padding": "longest",
        "causal_mask": False,
    }
    for key, other in others.items():
        recipe = first.run["recipe"] | {key: other}
        second = dataclasses.replace(first, run=first.run | {"recipe": recipe})
        with pytest.raises(CheckpointError, match=f"has {key} = "):
            average.average_runs([first, second])


def test_runs_of_an_older_average_weigh_alike(run: Run) -> None:
    plain = load_classifier(run("plain"))
    old = plain.run | {"is_average": True, "seeds": [{"seed": 3}, {"seed": 4}]}
    told = average._told([plain, dataclasses.replace(plain, sha256="other", run=old)])
    assert [(part["seed"], part["weight"]) for part in told] == [(1, 0.5), (3, 0.25), (4, 0.25)]


def test_a_run_that_is_named_twice_took_its_time_once(run: Run) -> None:
    one, other = (load_classifier(run(f"run{seed}", seed)) for seed in (1, 2))
    seconds = one.run["training_seconds"] + other.run["training_seconds"]
    outcome = average._outcome([one, other, one])
    assert outcome.seconds == pytest.approx(seconds)
    assert not outcome.interrupted
    stopped = dataclasses.replace(other, run=other.run | {"interrupted": True})
    assert average._outcome([one, stopped]).interrupted


def test_a_run_that_does_not_say_what_an_average_tells_is_refused_before_the_work(
    run: Run,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = run("one")
    whole = json.loads((one / "run.json").read_text())
    monkeypatch.setattr(average, "read_corpora", None)
    arguments = [str(one), str(one), "--data", str(corpus), "--out", str(tmp_path / "average")]
    wrong: list[dict[str, object]] = [
        {"best_step": None},
        {"training_seconds": "long"},
        {"metrics": {"test": {}}},
        {"metrics": []},
        {"is_average": True, "seeds": 5},
    ]
    for changes in wrong:
        (one / "run.json").write_text(json.dumps(whole | changes))
        assert average.main(arguments) == 2
        assert "the run.json of one is not of this version" in capsys.readouterr().err
    del whole["best_step"]
    (one / "run.json").write_text(json.dumps(whole))
    assert average.main(arguments) == 2
    assert "of this version of training.finetune: 'best_step'" in capsys.readouterr().err


def test_one_base_may_be_written_with_a_slash_or_without(run: Run) -> None:
    first = load_classifier(run("first"))
    recipes = [first.run["recipe"] | {"base": base} for base in ("runs/base", "runs/base/")]
    config, _ = average.average_runs(
        [dataclasses.replace(first, run=first.run | {"recipe": recipe}) for recipe in recipes]
    )
    assert config.base == "runs/base"


def test_an_average_is_read_where_its_runs_are_and_tells_their_base(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    one = run("one", recipe=TINY_RECIPE + 'read_token = "mean"\n')
    facts = json.loads((one / "run.json").read_text()) | {"base_sha256": "1" * 64}
    (one / "run.json").write_text(json.dumps(facts))
    out = tmp_path / "average"
    assert average.main([str(one), str(one), "--data", str(corpus), "--out", str(out)]) == 0
    own, mean = (json.loads((f / "run.json").read_text())["metrics"]["test"] for f in (one, out))
    assert mean == pytest.approx(own, abs=1e-6)
    assert json.loads((out / "run.json").read_text())["base_sha256"] == "1" * 64


def test_the_share_of_spam_is_told_only_where_all_runs_assume_it(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    plain, other = run("plain"), run("other", 2)
    weighted = run("weighted", recipe=TINY_RECIPE + "spam_weight = 8.0\n")
    for number, (second, is_known) in enumerate(((other, True), (weighted, False))):
        out = tmp_path / f"average{number}"
        arguments = [str(plain), str(second), "--data", str(corpus), "--out", str(out)]
        assert average.main(arguments) == 0
        assert ("spam_prior" in json.loads((out / "run.json").read_text())) is is_known


def test_an_average_is_calibrated_where_one_of_its_runs_is(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    plain, calibrated = run("plain"), run("other", 2, TINY_RECIPE + "calibrate = true\n")
    told = []
    for number, runs in enumerate(([plain, calibrated], [calibrated, plain])):
        out = tmp_path / f"average{number}"
        arguments = [*map(str, runs), "--data", str(corpus), "--out", str(out)]
        assert average.main(arguments) == 0
        told.append(json.loads((out / "config.json").read_text())["spamgate"])
    assert told[0]["temperature"] != 1
    assert told[0] == pytest.approx(told[1])


def test_what_any_of_its_runs_has_learnt_from_cannot_judge_an_average(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    extra = tmp_path / "extra.jsonl"
    extra.write_text('{"label": "spam", "text": "offer of the day"}\n')
    plain = run("plain")
    other = run("other", 2, TINY_RECIPE + f'training_only = ["{extra}"]\n')
    out = tmp_path / "average"
    arguments = [str(plain), str(other), "--data", str(corpus), "--out", str(out)]
    assert average.main(arguments) == 0
    told = json.loads((out / "run.json").read_text())
    assert [set(own["data_sha256"]) for own in lineage(told)][1:] == [
        {"SMSSpamCollection"},
        {"SMSSpamCollection", "extra.jsonl"},
    ]
    with pytest.raises(CorpusError, match=r"trained on .*extra.jsonl, which so is not foreign"):
        check_foreign(told, "average", [Source("jsonl", extra)])
    assert "`base_run` in `run.json` tells" in (out / "README.md").read_text()


def test_an_average_is_measured_in_float32(run: Run, corpus: Path, tmp_path: Path) -> None:
    recipe = TINY_RECIPE.replace('precision = "float32"', 'precision = "bfloat16"')
    one = run("one", recipe=recipe)
    out = tmp_path / "average"
    assert average.main([str(one), str(one), "--data", str(corpus), "--out", str(out)]) == 0
    test = split_examples(read_sms(corpus), TrainConfig.model_validate(tomllib.loads(recipe))).test
    found = spam_probabilities(Classifier.load(out, "cpu"), [e.text for e in test])
    exact = measure([e.label for e in test], found)
    facts = json.loads((out / "run.json").read_text())
    assert facts["metrics"]["test"]["loss"] == pytest.approx(exact.loss, abs=1e-6)


def test_a_run_may_be_averaged_with_what_it_started_from(run: Run) -> None:
    first = load_classifier(run("first"))
    later, stranger = (
        dataclasses.replace(
            first,
            name="runs/later",
            run=first.run | {"recipe": recipe, "base_sha256": sha256},
        )
        for base, sha256 in (("first", first.sha256), ("elsewhere", "0" * 64))
        for recipe in [first.run["recipe"] | {"base": f"runs/{base}"}]
    )
    older = dataclasses.replace(later, run=later.run | {"base_sha256": None})
    for runs in ([first, later], [later, first], [first, older]):
        average.average_runs(runs)
    # Another folder of that name, as each chain of build-starter has.
    namesake = dataclasses.replace(later, run=later.run | {"base_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match=r"different weights, of .*first"):
        average.average_runs([first, namesake])
    with pytest.raises(CheckpointError, match=r"different weights, of .*elsewhere"):
        average.average_runs([first, dataclasses.replace(stranger, name="runs/other")])
