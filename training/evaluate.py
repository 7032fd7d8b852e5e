"""python -m training.evaluate CHECKPOINT --data PATH: figures of a checkpoint on labelled texts.

With 95 % intervals, at the mix of ham and spam that the texts have and with both weighing the same.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from model.classifier import Classifier
from model.windows import MAX_WINDOWS
from training.command import add_device, exit_code
from training.config import TrainingError
from training.corpora import CORPORA, Source, sha256_of
from training.provenance import learnt_whole, lineage

_Floats = NDArray[np.float64]

# Bins of P(spam) in the calibration error.
_CALIBRATION_BINS = 10
_WITHOUT_INTERVAL = {"calibration_error", "calibration_noise"}
# Keeps a loss finite where a wrong verdict is certain.
_LEAST_PROBABILITY = 1e-7
# Resamples times texts that are held at once: some ten arrays of 8 MB.
_ELEMENTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Metrics:
    """Figures on one set of texts; spam is the positive class, the threshold 0.5.

    ``accuracy``, ``mcc``, ``f1``, ``loss``, ``calibration_error`` and ``calibration_noise`` depend
    on the share of spam among the texts; all others do not.

    Attributes:
        texts: how many, ham and spam together.
        accuracy: share of right verdicts.
        mcc: Matthews correlation coefficient, -1 to 1; 0 for a constant verdict.
        f1: harmonic mean of spam_caught and the share of spam among what is called spam.
        spam_caught: share of spam called spam (SC%).
        ham_blocked: share of ham called spam (BH%).
        roc_auc: chance that a spam text scores above a ham text.
        loss: mean negative log-likelihood of the labels, in nats.
        one_minus_auc_percent: 100 (1 - roc_auc), the spam filter evaluations' 1-ROCA%.
        lam: the rates of blocked ham and missed spam, averaged as log odds (lam% / 100); half an
            error is added to each, so that none is infinite.
        spam_missed_at_0_1_percent: share of spam missed at the lowest threshold that blocks at most
            0.1 % of ham. Fewer than 1,000 ham: at one that blocks none.
        spam_missed_at_1_percent: the same at 1 %.
        calibration_error: mean distance of P(spam) from the share of spam, over ten bins of P(spam)
            weighted by their texts.
        calibration_noise: what that would be on average if each text were spam with exactly the
            probability that it was given: few texts put even a calibrated model off by so much.
    """

    texts: int
    accuracy: float
    mcc: float
    f1: float
    spam_caught: float
    ham_blocked: float
    roc_auc: float
    loss: float
    one_minus_auc_percent: float
    lam: float
    spam_missed_at_0_1_percent: float
    spam_missed_at_1_percent: float
    calibration_error: float
    calibration_noise: float


@dataclass(frozen=True)
class Measured:
    """Metrics with the ends of their intervals, by metric.

    ``calibration_error`` has none: a mean of distances is too large on few texts, and on resamples
    of them once more, so that an interval would never hold a calibrated model's own error.
    ``calibration_noise`` says how much too large.
    """

    value: Metrics
    low: dict[str, float]
    high: dict[str, float]

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Both ends, None where the metric has none."""
        return (self.low[metric], self.high[metric]) if metric in self.low else None


def measure(
    labels: Sequence[int], spam_probabilities: Sequence[float], *, balanced: bool = False
) -> Metrics:
    """Metrics of probabilities of spam against labels (0 ham, 1 spam), both classes present.

    Args:
        labels: one a text.
        spam_probabilities: one a text, 0 to 1.
        balanced: weigh the texts so that ham and spam count the same.

    Raises:
        TrainingError: only one class among the labels.
    """
    truth, scores = _as_arrays(labels, spam_probabilities)
    figures = _weighted(truth, scores, np.ones((1, len(truth))), balanced)
    return Metrics(len(truth), **{name: float(values[0]) for name, values in figures.items()})


def measure_with_intervals(
    labels: Sequence[int],
    spam_probabilities: Sequence[float],
    *,
    balanced: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Measured:
    """Metrics with 95 % percentile bootstrap intervals.

    Ham and spam are drawn anew separately, as many as there are, so no resample is without either.
    Each text counts as independent of the others: near-duplicates make the intervals too narrow.
    A rate without a single error gets the interval 0 to 0; then up to 3 / n is possible.

    Args:
        labels: as for ``measure``.
        spam_probabilities: as for ``measure``.
        balanced: as for ``measure``.
        resamples: how often the texts are drawn; a thousand of 5,000 texts take a second.
        seed: of the draws.

    Raises:
        TrainingError: as for ``measure``.
    """
    truth, scores = _as_arrays(labels, spam_probabilities)
    rng = np.random.default_rng(seed)
    at_once = max(1, _ELEMENTS_AT_ONCE // len(truth))
    chunks = [
        _weighted(truth, scores, _draw(rng, truth, min(at_once, resamples - done)), balanced)
        for done in range(0, resamples, at_once)
    ]
    low, high = {}, {}
    for name in chunks[0].keys() - _WITHOUT_INTERVAL:
        values = np.concatenate([chunk[name] for chunk in chunks])
        low[name], high[name] = np.percentile(values, [2.5, 97.5]).tolist()
    return Measured(measure(labels, spam_probabilities, balanced=balanced), low, high)


def _check_classes(labels: Sequence[int]) -> None:
    num_spam = sum(labels)
    if not 0 < num_spam < len(labels):
        raise TrainingError(
            f"metrics need ham and spam, here are {len(labels) - num_spam} and {num_spam}: give "
            "labelled texts of both."
        )


def _as_arrays(
    labels: Sequence[int], spam_probabilities: Sequence[float]
) -> tuple[NDArray[np.int64], _Floats]:
    """Both as arrays, in falling order of probability."""
    truth = np.asarray(labels, dtype=np.int64)
    scores = np.asarray(spam_probabilities, dtype=np.float64)
    _check_classes(labels)
    order = np.argsort(-scores, kind="stable")
    return truth[order], scores[order]


def _draw(rng: np.random.Generator, truth: NDArray[np.int64], resamples: int) -> _Floats:
    """(resamples, texts): how often each text is in each resample."""
    counts = np.zeros((resamples, len(truth)))
    for label in (0, 1):
        places = np.flatnonzero(truth == label)
        drawn = rng.integers(len(places), size=(resamples, len(places)))
        drawn += len(places) * np.arange(resamples)[:, None]
        of_class = np.bincount(drawn.ravel(), minlength=resamples * len(places))
        counts[:, places] = of_class.reshape(resamples, len(places))
    return counts


def _weighted(
    truth: NDArray[np.int64], scores: _Floats, weights: _Floats, balanced: bool
) -> dict[str, _Floats]:
    """Each metric but ``texts`` for R weightings of the same texts.

    Args:
        truth: (texts,).
        scores: (texts,), falling.
        weights: (R, texts); a weight of 2 is as a text that is there twice.
        balanced: as for ``measure``.

    Returns:
        Arrays (R,) by the names of ``Metrics``.
    """
    is_spam = truth == 1
    ham, spam = weights @ ~is_spam, weights @ is_spam  # (R,)
    called_spam = scores > 0.5
    caught, blocked = weights @ (is_spam & called_spam), weights @ (~is_spam & called_spam)
    figures = _ranking(is_spam, scores, weights)
    figures["spam_caught"] = caught / spam
    figures["ham_blocked"] = blocked / ham
    figures["lam"] = _lam(blocked, ham, spam - caught, spam)
    if balanced:
        weights = weights * np.where(is_spam, (0.5 / spam)[:, None], (0.5 / ham)[:, None])
        caught, blocked, ham, spam = (
            caught / spam / 2,
            blocked / ham / 2,
            ham / ham / 2,
            spam / spam / 2,
        )
    total = ham + spam
    likelihood = np.where(is_spam, scores, 1 - scores).clip(_LEAST_PROBABILITY, 1)
    figures["accuracy"] = (caught + ham - blocked) / total
    figures["loss"] = weights @ -np.log(likelihood) / total
    figures["f1"] = 2 * caught / (spam + caught + blocked)
    figures["mcc"] = _mcc(caught, blocked, ham - blocked, spam - caught)
    bins = np.minimum((scores * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    in_bin = np.eye(_CALIBRATION_BINS)[bins]  # (texts, bins)
    gaps = weights @ ((is_spam - scores)[:, None] * in_bin)  # (R, bins)
    figures["calibration_error"] = np.abs(gaps).sum(axis=1) / total
    variances = weights**2 @ ((scores * (1 - scores))[:, None] * in_bin)
    # A normal variable's distance from its mean is so many standard deviations on average.
    figures["calibration_noise"] = np.sqrt(variances * 2 / np.pi).sum(axis=1) / total
    return figures


def _ranking(is_spam: NDArray[np.bool_], scores: _Floats, weights: _Floats) -> dict[str, _Floats]:
    """What depends on the order of the scores alone; equal scores share one threshold."""
    starts = np.flatnonzero(np.diff(scores, prepend=np.inf))
    ham = np.add.reduceat(weights * ~is_spam, starts, axis=1)  # (R, thresholds)
    spam = np.add.reduceat(weights * is_spam, starts, axis=1)
    ham_above, spam_above = ham.cumsum(axis=1), spam.cumsum(axis=1)
    all_ham, all_spam = ham_above[:, -1:], spam_above[:, -1:]
    # Each ham loses to the spam above it, and half to that beside it.
    auc = (ham * (spam_above - spam / 2)).sum(axis=1) / (all_ham * all_spam)[:, 0]
    figures = {"roc_auc": auc, "one_minus_auc_percent": 100 * (1 - auc)}
    for name, limit in (("0_1", 0.001), ("1", 0.01)):
        allowed = (ham_above <= limit * all_ham).sum(axis=1)  # thresholds that block few enough
        caught = np.pad(spam_above, ((0, 0), (1, 0)))[np.arange(len(allowed)), allowed]
        figures[f"spam_missed_at_{name}_percent"] = 1 - caught / all_spam[:, 0]
    return figures


def _lam(blocked: _Floats, ham: _Floats, missed: _Floats, spam: _Floats) -> _Floats:
    log_odds = [
        np.log((errors + 0.5) / (total - errors + 0.5))
        for errors, total in ((blocked, ham), (missed, spam))
    ]
    lam: _Floats = expit((log_odds[0] + log_odds[1]) / 2)
    return lam


def _mcc(caught: _Floats, blocked: _Floats, passed: _Floats, missed: _Floats) -> _Floats:
    scale = np.sqrt((caught + blocked) * (caught + missed) * (passed + blocked) * (passed + missed))
    product = caught * passed - blocked * missed
    mcc: _Floats = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return mcc


def spam_probabilities(
    classifier: Classifier, texts: Sequence[str], max_windows: int = MAX_WINDOWS
) -> list[float]:
    """A classifier's P(spam) of each text, long ones read in windows as in the service."""
    return [verdict.spam_probability for verdict in classifier.classify(texts, max_windows)]


def as_table(rows: dict[str, Metrics]) -> str:
    """A Markdown table of the metrics most asked for, one row a set or system."""
    lines = [
        "| | texts | accuracy | MCC | spam caught | ham blocked | ROC AUC | loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {m.texts} | {m.accuracy:.2%} | {m.mcc:.4f} | {m.spam_caught:.2%} "
        f"| {m.ham_blocked:.2%} | {m.roc_auc:.4f} | {m.loss:.4f} |"
        for name, m in rows.items()
    ]
    return "\n".join(lines)


# Every metric's name for readers, and how it is printed.
FIGURES = {
    "accuracy": ("accuracy", ".2%"),
    "spam_caught": ("SC%, spam caught", ".2%"),
    "ham_blocked": ("BH%, ham blocked", ".2%"),
    "mcc": ("MCC", ".4f"),
    "f1": ("F1", ".4f"),
    "roc_auc": ("ROC AUC", ".4f"),
    "one_minus_auc_percent": ("1-ROCA%", ".4f"),
    "lam": ("lam%", ".2%"),
    "spam_missed_at_0_1_percent": ("spam missed at 0.1 % ham blocked", ".2%"),
    "spam_missed_at_1_percent": ("spam missed at 1 % ham blocked", ".2%"),
    "calibration_error": ("expected calibration error", ".4f"),
    "calibration_noise": ("the same of a calibrated model", ".4f"),
    "loss": ("loss, nats", ".4f"),
}


def as_cell(measured: Measured, metric: str) -> tuple[str, str]:
    """A metric's value as it is printed, and its interval, empty where it has none."""
    form = FIGURES[metric][1]
    ends = measured.interval(metric) or ()
    return f"{getattr(measured.value, metric):{form}}", " to ".join(f"{end:{form}}" for end in ends)


def as_long_table(systems: dict[str, Measured]) -> str:
    """A Markdown table of every metric with its interval, one column a system."""
    rows = {"texts": [str(measured.value.texts) for measured in systems.values()]}
    for metric, (name, _) in FIGURES.items():
        cells = (as_cell(measured, metric) for measured in systems.values())
        rows[name] = [f"{value} ({interval})" if interval else value for value, interval in cells]
    lines = [f"| | {' | '.join(systems)} |", "|---|" + "---|" * len(systems)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or one JSON object with --json. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("checkpoint", help="checkpoint folder or hub id")
    parser.add_argument(
        "--data",
        required=True,
        metavar="[KIND=]PATH",
        help=f"labelled texts; KIND is one of {', '.join(CORPORA)} (default: sms)",
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    return exit_code("training.evaluate", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    source = Source.labelled(options.data)
    examples = CORPORA[source.kind](source.path)
    labels = [e.label for e in examples]
    _check_classes(labels)
    classifier = Classifier.load(options.checkpoint, options.device, "float32")
    if learnt := _learnt(classifier.run, sha256_of(source.path)):
        print(
            f"training.evaluate: {classifier.name}, or a base of it, has learnt from {learnt}.",
            file=sys.stderr,
        )
    probabilities = spam_probabilities(classifier, [e.text for e in examples])
    natural = measure_with_intervals(labels, probabilities)
    balanced = measure_with_intervals(labels, probabilities, balanced=True)
    if options.json:
        figures = dataclasses.asdict(natural.value)
        for name, measured in (("natural_mix", natural), ("balanced", balanced)):
            figures[name] = dataclasses.asdict(measured)
        print(json.dumps({"model": classifier.name} | figures))
    else:
        print(f"{classifier.name}, 95 % intervals in brackets\n")
        print(as_long_table({"mix of the texts": natural, "balanced": balanced}))
    return 0


def _learnt(run: dict[str, Any], sha256: str) -> str:
    """How much of a file a run or a base of it has learnt, and what follows; empty for nothing."""
    found = [
        (file, own.get("recipe"))
        for own in lineage(run)
        if isinstance(data := own.get("data_sha256"), dict)  # else it was made elsewhere
        for file, digest in data.items()
        if digest == sha256
    ]
    if any(isinstance(recipe, dict) and file in learnt_whole(recipe) for file, recipe in found):
        return (
            "all of these texts, or a part of them, and kept none to test by: these figures say "
            "nothing about other texts"
        )
    unseen = "; its README.md tells its figures on those that it has not seen"
    return f"most of these texts{unseen}" if found else ""


if __name__ == "__main__":
    sys.exit(main())
