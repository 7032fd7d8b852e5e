"""The figures: against scikit-learn, worked by hand, weighed, and with intervals."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef, roc_auc_score

from model.classifier import Classifier
from training import evaluate
from training.config import TrainingError
from training.corpora import read_sms, sha256_of
from training.evaluate import FIGURES, Metrics, as_long_table, measure, measure_with_intervals

# Ten ham, four spam; 0.6 is given to both.
LABELS = [0] * 10 + [1] * 4
SCORES = [0.01, 0.02, 0.03, 0.05, 0.05, 0.1, 0.2, 0.3, 0.6, 0.9, 0.4, 0.6, 0.95, 0.99]


def random_texts(count: int = 500, seed: int = 0) -> tuple[list[int], list[float]]:
    """Labels and scores of an imperfect filter, one spam in five; some scores tie."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.2).astype(int)
    scores = 1 / (1 + np.exp(-(3 * labels - 1.5 + rng.normal(size=count))))
    return labels.tolist(), scores.round(2).tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_equal_scikit_learns(seed: int) -> None:
    labels, scores = random_texts(seed=seed)
    verdicts = [score > 0.5 for score in scores]
    metrics = measure(labels, scores)
    assert metrics.accuracy == pytest.approx(accuracy_score(labels, verdicts))
    assert metrics.mcc == pytest.approx(matthews_corrcoef(labels, verdicts))
    assert metrics.roc_auc == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.loss == pytest.approx(log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)))


def test_balanced_metrics_equal_scikit_learns_with_class_weights() -> None:
    labels, scores = random_texts()
    verdicts = [score > 0.5 for score in scores]
    weights = [1 / labels.count(label) for label in labels]
    metrics = measure(labels, scores, balanced=True)
    assert metrics.accuracy == pytest.approx(
        accuracy_score(labels, verdicts, sample_weight=weights)
    )
    assert metrics.mcc == pytest.approx(matthews_corrcoef(labels, verdicts, sample_weight=weights))
    assert metrics.f1 == pytest.approx(f1_score(labels, verdicts, sample_weight=weights))
    assert metrics.loss == pytest.approx(
        log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7), sample_weight=weights)
    )


def test_only_five_metrics_depend_on_the_mix() -> None:
    labels, scores = random_texts()
    natural, balanced = measure(labels, scores), measure(labels, scores, balanced=True)
    differ = {
        field.name
        for field in dataclasses.fields(Metrics)
        if getattr(natural, field.name) != pytest.approx(getattr(balanced, field.name))
    }
    assert differ == {"accuracy", "mcc", "f1", "loss", "calibration_error", "calibration_noise"}


@pytest.mark.parametrize(
    ("ham_count", "missed", "missed_at_0_1_percent"),
    [
        (900, 2 / 4, 2 / 4),  # 1 % is 9: not even the ten at 0.9 may be blocked
        (1990, 2 / 4, 2 / 4),  # 19.9: the ten at 0.9, but not those at 0.6, which come with a spam
        (2000, 0, 2 / 4),  # 20: all above 0
        (19_990, 0, 2 / 4),  # 0.1 % is 19.99
        (20_000, 0, 0),  # 20
    ],
)
def test_spam_missed_at_few_blocked_is_worked_by_hand(
    ham_count: int, missed: float, missed_at_0_1_percent: float
) -> None:
    ham = [0.9] * 10 + [0.6] * 10 + [0.0] * (ham_count - 20)
    spam = [0.4, 0.6, 0.95, 0.99]
    metrics = measure([0] * len(ham) + [1] * 4, ham + spam)
    assert metrics.spam_missed_at_1_percent == pytest.approx(missed)
    assert metrics.spam_missed_at_0_1_percent == pytest.approx(missed_at_0_1_percent)


def test_lam_is_the_mean_of_log_odds() -> None:
    metrics = measure(LABELS, SCORES)  # 2 of 10 ham blocked, 1 of 4 spam missed
    log_odds = math.log(2.5 / 8.5) / 2 + math.log(1.5 / 3.5) / 2
    assert metrics.lam == pytest.approx(1 / (1 + math.exp(-log_odds)))
    assert 0 < measure([0, 1], [0.1, 0.9]).lam < 1


def test_calibration_error_is_worked_by_hand() -> None:
    labels = [0, 0, 0, 1, 1, 1, 1, 0]
    scores = [0.25, 0.25, 0.25, 0.25, 0.75, 0.75, 1.0, 1.0]
    # The first bin is right; 0.75 is called where all are spam; 1.0 where half are.
    assert measure(labels, scores).calibration_error == pytest.approx((2 * 0.25 + 2 * 0.5) / 8)


def test_the_calibration_error_of_a_balanced_mix_is_worked_by_hand() -> None:
    labels = [0, 0, 0, 1]  # each ham counts for a third of the spam
    scores = [0.25, 0.25, 0.25, 0.75]
    # Half of the weight is called 0.25 where none is spam, half 0.75 where all are.
    found = measure(labels, scores, balanced=True).calibration_error
    assert found == pytest.approx(0.5 * 0.25 + 0.5 * 0.25)


def test_constant_verdict_has_no_correlation_and_an_even_ranking() -> None:
    metrics = measure([0, 0, 1], [0.2, 0.2, 0.2])
    assert (metrics.mcc, metrics.roc_auc, metrics.spam_missed_at_1_percent) == (0, 0.5, 1)


def test_intervals_hold_their_value_and_repeat_with_their_seed() -> None:
    labels, scores = random_texts()
    measured = measure_with_intervals(labels, scores, resamples=300)
    for metric in FIGURES.keys() - {"calibration_error", "calibration_noise"}:
        value = getattr(measured.value, metric)
        low, high = measured.low[metric], measured.high[metric]
        assert low <= value <= high, metric
        assert low < high, metric
    assert measured == measure_with_intervals(labels, scores, resamples=300)
    assert measured != measure_with_intervals(labels, scores, resamples=300, seed=1)


def test_interval_is_about_that_of_the_binomial() -> None:
    """Ham blocked: 80 of 2,000, standard error 0.44 points."""
    labels = [0] * 2000 + [1] * 10
    scores = [0.9] * 80 + [0.1] * 1920 + [0.8] * 10
    measured = measure_with_intervals(labels, scores)
    assert measured.low["ham_blocked"] == pytest.approx(0.04 - 1.96 * 0.00438, abs=0.001)
    assert measured.high["ham_blocked"] == pytest.approx(0.04 + 1.96 * 0.00438, abs=0.001)


def test_resamples_do_not_depend_on_how_many_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, scores = random_texts()
    whole = measure_with_intervals(labels, scores, resamples=200, seed=3)
    draw, drawn = evaluate._draw, []

    def draw_and_tell(rng: np.random.Generator, truth: np.ndarray, resamples: int) -> np.ndarray:
        drawn.append(resamples)
        return draw(rng, truth, resamples)

    monkeypatch.setattr(evaluate, "_draw", draw_and_tell)
    monkeypatch.setattr(evaluate, "_ELEMENTS_AT_ONCE", 15_000)
    parts = measure_with_intervals(labels, scores, resamples=200, seed=3)
    assert parts.low["accuracy"] == pytest.approx(whole.low["accuracy"], abs=0.01)
    assert parts.value == whole.value
    assert drawn == [30] * 6 + [20]


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(TrainingError, match="ham and spam"):
        measure_with_intervals([1, 1], [0.5, 0.5])


def test_long_table_has_every_metric_and_system() -> None:
    measured = measure_with_intervals(LABELS, SCORES, resamples=50)
    lines = as_long_table({"one": measured, "two": measured}).splitlines()
    assert len(lines) == 3 + len(FIGURES)
    assert lines[2] == "| texts | 14 | 14 |"
    assert lines[4].startswith("| SC%, spam caught | 75.00% (")


def test_calibration_noise_is_the_error_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(300) ** 2
    drawn = [
        measure((rng.random(300) < scores).astype(int).tolist(), scores.tolist())
        for _ in range(300)
    ]
    errors = np.mean([metrics.calibration_error for metrics in drawn])
    assert drawn[0].calibration_noise == pytest.approx(errors, rel=0.05)
    sure = measure([0, 0, 1, 1], [0.0, 1.0, 1.0, 1.0])
    assert (sure.calibration_error, sure.calibration_noise) == (0.25, 0)


def test_calibration_noise_of_a_balanced_mix_is_worked_by_hand() -> None:
    labels, scores = [0, 0, 0, 1], [0.5, 0.5, 0.5, 0.75]
    # Of variances 1/4 and 3/16, three weigh a sixth and one a half; two bins.
    deviations = math.sqrt(3 / 36 / 4) + math.sqrt(3 / 16 / 4)
    found = measure(labels, scores, balanced=True).calibration_noise
    assert found == pytest.approx(deviations * math.sqrt(2 / math.pi))


def test_calibration_error_gets_no_interval() -> None:
    """A calibrated model's percentile interval would begin above its error, which is 0."""
    rng = np.random.default_rng(0)
    scores = rng.random(500)
    labels = (rng.random(500) < scores).astype(int)
    measured = measure_with_intervals(labels.tolist(), scores.tolist(), resamples=50)
    assert measured.interval("calibration_error") is None
    [row] = [line for line in as_long_table({"": measured}).splitlines() if "tion error" in line]
    assert row == f"| expected calibration error | {measured.value.calibration_error:.4f} |"


def test_metrics_of_a_worked_example() -> None:
    metrics = measure([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9, 0.8, 0.4])
    assert metrics.accuracy == pytest.approx(4 / 6)
    assert (metrics.spam_caught, metrics.ham_blocked) == (0.5, 0.25)
    assert metrics.mcc == pytest.approx((1 * 3 - 1 * 1) / np.sqrt(2 * 2 * 4 * 4))
    assert metrics.roc_auc == pytest.approx(6 / 8)
    with pytest.raises(TrainingError, match="ham and spam"):
        measure([1, 1], [0.5, 0.5])


def test_evaluate_tells_where_the_texts_are_those_of_the_training(
    corpus: Path, save_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny()
    other, same = ({"data_sha256": {"texts": sha256}} for sha256 in ("00", sha256_of(corpus)))
    split = same | {"recipe": {"replay": ["any/others"]}}
    whole = same | {"recipe": {"replay": ["any/texts"]}}
    most, every = "learnt from most of these texts; its README.md", "learnt from all of these texts"
    for run, told in (
        (other, ""),
        (same, most),
        (split, most),
        (other | {"base_run": same}, most),
        (whole, every),
        (same | {"base_run": whole}, every),
        (other | {"base_run": whole}, every),
        (same | {"recipe": "of another program"}, most),
    ):
        (folder / "run.json").write_text(json.dumps(run))
        for place in (corpus, corpus.parent):
            assert evaluate.main([str(folder), "--data", str(place), "--json"]) == 0
            error = capsys.readouterr().err
            assert told in error
            assert error.count("\n") == bool(told)
    (folder / "run.json").write_text('{"data_sha256": ["of another program"]}')
    assert evaluate.main([str(folder), "--data", str(corpus), "--json"]) == 0


def test_evaluate_prints_figures_and_refuses_bad_input(
    corpus: Path, save_tiny: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny()
    assert evaluate.main([str(folder), "--data", str(corpus), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["texts"] == 150
    examples = read_sms(corpus)
    verdicts = Classifier.load(folder, "cpu").classify([e.text for e in examples])
    exact = measure([e.label for e in examples], [v.spam_probability for v in verdicts])
    assert figures["loss"] == pytest.approx(exact.loss, abs=1e-6)
    assert evaluate.main([str(folder), "--data", str(corpus)]) == 0
    assert "| 150 |" in capsys.readouterr().out
    assert evaluate.main(["absent", "--data", str(corpus)]) == 2
    assert "no checkpoint folder" in capsys.readouterr().err
    assert evaluate.main([str(folder), "--data", f"text={corpus}"]) == 2
    assert "has no labels: KIND is one of sms, jsonl, csv, mail" in capsys.readouterr().err
    assert evaluate.main([str(folder), "--data", f"tsv={corpus}"]) == 2
    assert "KIND one of sms, jsonl, csv, mail." in capsys.readouterr().err


def test_texts_of_one_class_are_refused_before_they_are_read(
    tmp_path: Path,
    save_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ham = tmp_path / "ham.jsonl"
    ham.write_text('{"label": "ham", "text": "hello"}\n')
    monkeypatch.setattr(evaluate, "spam_probabilities", None)
    assert evaluate.main([str(save_tiny()), "--data", f"jsonl={ham}"]) == 2
    assert (
        "need ham and spam, here are 1 and 0: give labelled texts of both"
        in capsys.readouterr().err
    )
