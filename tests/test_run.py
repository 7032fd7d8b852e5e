"""Whole runs in memory: kept activations, calibration, the book's other ways to read."""

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.checkpoint import load_classifier
from model.classifier import Classifier
from model.folders import CheckpointError
from model.packing import pack
from model.windows import read_in_windows
from tests.conftest import tiny_classifier_model
from tests.tiny_training import TINY_RECIPE
from training import activations, finetune, measuring, run
from training.calibration import assumed_spam_prior, fit_calibration
from training.config import ConfigError, TrainConfig, TrainingError, load_config
from training.corpora import Example, read_sms
from training.cutoffs import find_cutoffs
from training.data import Splits, split_examples, tokenize_parts
from training.evaluate import measure
from training.history import History
from training.loop import Outcome, Snapshot
from training.reading import read_texts

CPU = torch.device("cpu")


@pytest.mark.parametrize("trained", ["head", "last_block", "last_two_blocks"])
@pytest.mark.parametrize("cache_memory_bytes", [0, 1 << 30])
def test_cached_activations_change_no_result(
    trained: str, cache_memory_bytes: int, corpus: Path, recipe: Path
) -> None:
    """The same weights as without, from memory as from the file on disk."""
    config = load_config(
        recipe, trained=trained, n_layer=3, epochs=1, cache_memory_bytes=cache_memory_bytes
    )
    uncached = config.model_copy(update={"cached_activations": False})
    runs = [run.finetune(c, read_sms(corpus), CPU) for c in (config, uncached)]
    parameters = [done.model.named_parameters() for done in runs]
    for (name, one), (_, other) in zip(*parameters, strict=True):
        if name.endswith("c_attn.bias"):
            # The keys' share has a gradient of rounding alone, which AdamW scales up.
            one, other = (torch.cat(parameter.chunk(3)[::2]) for parameter in (one, other))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    losses = [[point.train_loss for point in done.outcome.history.losses] for done in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no way to ask for room on a disk")
def test_activations_on_disk_have_their_room_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = (tmp_path / "rows").open("w+b")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: file)
    activations._allocate(1000, 32, max_memory_bytes=128_000)
    assert not (tmp_path / "rows").stat().st_size
    rows = activations._allocate(1000, 32, max_memory_bytes=127_999)
    assert rows.shape == (1000, 32)
    assert 512 * (tmp_path / "rows").stat().st_blocks >= rows.nbytes


def test_random_weights_read_no_more_tokens_than_gpt2(recipe: Path, corpus: Path) -> None:
    with pytest.raises(TrainingError, match="max_tokens is 1025, random takes 1024"):
        run.finetune(load_config(recipe, max_tokens=1025), read_sms(corpus), CPU)


def test_calibration_takes_back_what_was_done_to_honest_logits() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (4000,))
    honest = torch.randn(4000, 2) + 1.0 * torch.nn.functional.one_hot(labels, 2)
    temperature, shift = fit_calibration(honest, labels)
    assert shift == pytest.approx(0, abs=0.1)  # as many of both, treated alike
    tilted = 3 * honest + torch.tensor([0.0, 2.0])
    assert fit_calibration(tilted, labels) == pytest.approx(
        (3 * temperature, shift - 2 / (3 * temperature)), rel=1e-3, abs=1e-3
    )


@pytest.mark.parametrize(
    ("odds", "labels", "lowest", "highest"),
    [
        ([1.0, 1.0], [0, 0], 0.3, 0.6),  # always wrong, and always the same way: once 0.73
        ([-1.0, -1.0], [1, 1], 0.4, 0.7),
        ([3.0, -3.0] * 3, [1, 0] * 3, 0.001, 0.999),  # always right
        ([1.0, -1.0] * 500, [0, 1] * 500, 0.47, 0.53),  # as far as the temperature goes: 10
        ([0.1, -0.1] * 500, [1, 0] * 500, 0.26, 0.74),  # and 0.1
    ],
)
def test_calibration_of_a_few_texts_is_not_too_sure_of_them(
    odds: list[float], labels: list[int], lowest: float, highest: float
) -> None:
    logits = torch.tensor([[0.0, value] for value in odds])
    temperature, shift = fit_calibration(logits, torch.tensor(labels))
    found = (torch.tensor(odds) / temperature + shift).sigmoid()
    assert lowest < found.min() <= found.max() < highest


def test_calibration_of_many_texts_is_what_they_say() -> None:
    """Of ham and spam two normals apart by 2, told as if they were by 6, one text of five spam."""
    rng = np.random.default_rng(0)
    labels = (rng.random(4000) < 0.2).astype(int)
    odds = 3 * (2 * labels - 1 + rng.normal(size=4000))
    logits = torch.tensor(np.stack([np.zeros(4000), odds], 1))
    temperature, shift = fit_calibration(logits, torch.tensor(labels))
    # The true log odds are twice the distance, and the log of 0.2 to 0.8.
    assert temperature == pytest.approx(1.5, rel=0.1)
    assert shift == pytest.approx(math.log(0.25), abs=0.15)


def test_calibration_ends_at_the_likeliest_where_the_shift_is_bounded() -> None:
    """Of odds too high by 5, which a shift of 3 at most and a temperature take back together."""
    labels = torch.arange(1000) % 4 == 0
    noise = torch.from_numpy(np.random.default_rng(3).normal(0, 1.5, 1000))
    odds = 5 * (2 * labels - 1) + noise + 5
    logits = torch.stack([torch.zeros(1000), odds], 1)

    def missed(temperature: float, shift: float) -> float:
        told = odds / temperature + shift
        loss = F.binary_cross_entropy_with_logits(told, labels.double(), reduction="sum")
        return loss.item() + (math.log(temperature) ** 2 + shift**2) / 2

    found = fit_calibration(logits, labels.long())
    assert found == pytest.approx((1.477, -3.0), abs=0.01)
    for temperature, shift in ((found[0] * 1.02, found[1]), (found[0], found[1] + 0.05)):
        assert missed(*found) < missed(temperature, shift)


def test_calibrated_run_tells_its_temperature_and_shift(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(TINY_RECIPE + "calibrate = true\n")
    out = tmp_path / "run"
    assert finetune.main([str(recipe), "--data", str(corpus), "--out", str(out)]) == 0
    told = json.loads((out / "config.json").read_text())["spamgate"]
    plain = run.finetune(load_config(recipe, calibrate=False), read_sms(corpus), CPU)
    calibrated = run.finetune(load_config(recipe), read_sms(corpus), CPU)
    assert calibrated.temperature == pytest.approx(told["temperature"])
    assert calibrated.shift == pytest.approx(told["shift"])
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        expected = plain.model(batch) / told["temperature"] + torch.tensor([0, told["shift"]])
        torch.testing.assert_close(calibrated.model(batch), expected, atol=1e-4, rtol=1e-4)
    assert told["shift"] != 0


@pytest.mark.parametrize(
    ("extra", "part"),
    [
        ("", "train"),
        ('selection = "book"\n', "train"),
        ("spam_weight = 8.0\n", None),
        ("spam_weight = 8.0\ncalibrate = true\n", "validation"),
        ('training_only = ["FILE"]\n', None),
        ('table_only = ["FILE"]\nngrams = 0.1\n', None),
        ("ngrams = 0.1\n", None),
        ("ngrams = 0.1\ncalibrate = true\n", "validation"),
        ('replay = ["FILE"]\nreplay_parts = 1\n', None),
        ('replay = ["FILE"]\nreplay_parts = 1\ncalibrate = true\n', "validation"),
    ],
)
def test_the_share_of_spam_is_told_only_where_verdicts_assume_it(
    corpus: Path, recipe: Path, tmp_path: Path, extra: str, part: str | None
) -> None:
    file = tmp_path / "extra.jsonl"
    file.write_text(
        "".join(f'{{"label": "spam", "text": "offer {n} of the day"}}\n' for n in range(8))
    )
    recipe.write_text(TINY_RECIPE + extra.replace("FILE", str(file)))
    out = tmp_path / "run"
    arguments = [str(recipe), "--data", str(corpus), "--epochs", "1", "--out", str(out)]
    assert finetune.main(arguments) == 0
    told = json.loads((out / "run.json").read_text())
    share = {p: n["spam"] / (n["ham"] + n["spam"]) for p, n in told["counts"].items()}
    assert "book" not in extra or share["train"] != share["validation"]
    assert told.get("spam_prior") == (share[part] if part else None)


def test_a_head_that_is_kept_assumes_the_share_of_spam_that_it_did() -> None:
    halves = [Example("lunch?", 0, "sms"), Example("win cash", 1, "sms")]
    splits = Splits(halves + halves[:1], halves, halves)
    kept = TrainConfig(base="runs/first", keep_head=True)
    assert assumed_spam_prior(kept, splits) == {}
    for known, share in (({"keep_head": False}, 1 / 3), ({"calibrate": True}, 0.5)):
        assert assumed_spam_prior(kept.model_copy(update=known), splits) == {"spam_prior": share}


def test_a_classifier_learns_on_with_its_head_where_the_recipe_says_so(
    save_tiny: Callable[..., Path], recipe: Path, tiny_base: Path
) -> None:
    folder = save_tiny()
    saved = load_classifier(folder).model
    kept = run.make_model(load_config(recipe, base=str(folder), keep_head=True))
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(kept(batch), saved(batch))
    fresh = run.make_model(load_config(recipe, base=str(folder)))
    assert not torch.equal(fresh.score.weight, saved.score.weight)
    with pytest.raises(CheckpointError):
        run.make_model(load_config(recipe, base=str(tiny_base), keep_head=True))
    with pytest.raises(ConfigError, match="keep_head"):
        load_config(recipe, base="random", keep_head=True)


def test_the_last_weights_are_saved_where_the_recipe_says_so(recipe: Path, corpus: Path) -> None:
    steps = {}
    for kept in ("best", "last"):  # at this rate no step is better than another
        config = load_config(recipe, learning_rate=1e-30, snapshot=kept)
        steps[kept] = run.finetune(config, read_sms(corpus), CPU).outcome.snapshot.step
    assert steps["best"] == 1 < steps["last"]
    with pytest.raises(ConfigError, match="patience"):
        load_config(recipe, snapshot="last", patience=2)


def test_what_decides_in_service_comes_of_the_validation_part_alone(
    corpus: Path, recipe: Path
) -> None:
    """Calibration, cut-offs and the share of spam, whatever stands in the test part."""
    config = load_config(recipe, calibrate=True)
    ham, spam = ([e for e in read_sms(corpus) if e.label == label] for label in (0, 1))
    outcome = Outcome(History(), Snapshot(1), 1.0, 1.0, interrupted=False)
    calibrations = set()
    for test in (spam[30:40] + ham[50:52], ham[40:60] + spam[:1]):
        splits = Splits(ham[:20] + spam[:20], ham[20:50] + spam[20:30], test)
        parts, read_token = tokenize_parts(splits, config)
        measured = measuring.measure_model(
            tiny_classifier_model(), read_token, splits, parts, outcome, config, CPU
        )
        calibrations.add((measured.temperature, measured.shift))
        found = read_texts(measured.model, [e.text for e in splits.validation], CPU)
        expected = find_cutoffs([e.label for e in splits.validation], found)
        assert measured.facts["cutoffs"] == pytest.approx(dataclasses.asdict(expected))
        assert measured.facts["spam_prior"] == 0.25
    assert len(calibrations) == 1


def test_a_table_is_fitted_to_the_training_part_alone(
    corpus: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, examples = load_config(recipe, ngrams=0.5), read_sms(corpus)
    read: list[Example] = []

    def note(train: list[Example], *_: object) -> None:
        read.extend(train)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit_ngrams", note)
    with pytest.raises(KeyboardInterrupt):
        run.finetune(config, examples, CPU)
    assert read == split_examples(examples, config).train


@pytest.mark.parametrize("read", ["first", "mean"])
def test_other_tokens_can_be_read(read: Literal["first", "mean"]) -> None:
    model = tiny_classifier_model()
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        states = model.transformer(batch)
        wanted = {
            "first": states[[0, 3]],
            "mean": torch.stack([states[:3].mean(0), states[3:].mean(0)]),
        }[read]
        model.read = read
        torch.testing.assert_close(model(batch), model.score(wanted))


def test_without_causal_mask_earlier_tokens_see_later_ones() -> None:
    model = tiny_classifier_model()
    model.read = "first"
    with torch.no_grad():
        causal = [model(pack([[1, last]])) for last in (2, 3)]
        free = [model(pack([[1, last]], causal=False)) for last in (2, 3)]
    assert causal[0].equal(causal[1])
    assert not free[0].equal(free[1])


@pytest.mark.parametrize(("precision", "rounds"), [("float32", False), ("bfloat16", True)])
def test_figures_are_computed_in_the_trainings_precision(
    corpus: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, precision: str, rounds: bool
) -> None:
    seen: list[bool] = []

    def watched(*arguments: Any) -> list[float]:
        seen.append(torch.is_autocast_enabled("cpu"))
        return read_texts(*arguments)

    monkeypatch.setattr(measuring, "read_texts", watched)
    run.finetune(load_config(recipe, trained="all", precision=precision), read_sms(corpus), CPU)
    assert seen == [rounds] * 3


def test_what_is_measured_is_what_the_service_reads(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    """Kept activations are of texts cut at the context, and the book's are as they came."""
    lines = corpus.read_text().splitlines()
    long = [f"{line} fr33 c@$h" + " and so on" * 400 * (n % 7 == 0) for n, line in enumerate(lines)]
    corpus.write_text("\n".join(long))
    flags = ["--data", str(corpus), "--epochs", "1", "--out"]
    for selection in ("all", "book"):
        extra = f'calibrate = true\ntrained = "head"\nselection = "{selection}"\n'
        recipe.write_text(TINY_RECIPE.replace("trained", "# trained") + extra)
        assert finetune.main([str(recipe), *flags, str(tmp_path / selection)]) == 0
        config = load_config(recipe, epochs=1)
        served = Classifier.load(tmp_path / selection, "cpu", "float32")
        told = json.loads((tmp_path / selection / "run.json").read_text())["metrics"]
        for name, part in vars(split_examples(read_sms(corpus), config)).items():
            verdicts = read_in_windows(served.predict, [e.text for e in part], 1024)
            found = [verdict.spam_probability for verdict in verdicts]
            loss = measure([e.label for e in part], found).loss
            assert told[name]["loss"] == pytest.approx(loss, abs=1e-4), (selection, name)
