"""Plots of one run: how it learnt, and how its verdicts on the test texts hold up."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from model.gpt2 import LABELS
from training.cutoffs import reliability
from training.history import History

# Systems differ in both, for whoever sees no colours.
_COLOURS = ("#1d4ed8", "#d97706", "#059669")
_STYLES = ("-", "--", ":")


def draw_losses(history: History) -> Figure:
    """Training and validation loss of the first batches, as in the book, and what the snapshot is
    chosen by; a second axis tells the examples seen.
    """
    points = history.losses
    return _draw_curves(
        "Loss (nats)",
        [p.epoch for p in points],
        [p.examples for p in points],
        {
            "training": [p.train_loss for p in points],
            "validation": [p.validation_loss for p in points],
            "all of validation": [p.whole_validation_loss for p in points],
        },
    )


def draw_accuracies(history: History) -> Figure:
    """Training and validation accuracy at the epochs' ends."""
    points = history.accuracies
    return _draw_curves(
        "Accuracy",
        [p.epoch for p in points],
        [p.examples for p in points],
        {
            "training": [p.train_accuracy for p in points],
            "validation": [p.validation_accuracy for p in points],
        },
    )


def draw_roc(labels: Sequence[int], systems: Mapping[str, Sequence[float]]) -> Figure:
    """Spam caught against ham blocked; the share of ham is logarithmic, as only its low end counts.

    Args:
        labels: 0 ham, 1 spam.
        systems: P(spam) of each text, by the system's name.
    """
    figure, axes = _axes("Ham blocked (left edge: none)", "Spam caught")
    least = 0.5 / sum(label == 0 for label in labels)  # stands for none
    for (name, scores), colour, style in zip(systems.items(), _COLOURS, _STYLES, strict=False):
        blocked, caught, _ = roc_curve(labels, scores, drop_intermediate=False)
        least_or_more = np.maximum(blocked, least)
        axes.step(least_or_more, caught, style, where="post", label=_plain(name), color=colour)
    axes.set_xscale("log")
    axes.set_xlim(least, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower right")
    return figure


def draw_precision_recall(labels: Sequence[int], systems: Mapping[str, Sequence[float]]) -> Figure:
    """Share of spam among what is called spam, against spam caught; arguments as ``draw_roc``."""
    figure, axes = _axes("Spam caught (recall)", "Spam among blocked (precision)")
    for (name, scores), colour, style in zip(systems.items(), _COLOURS, _STYLES, strict=False):
        precision, recall, _ = precision_recall_curve(labels, scores)
        axes.step(recall, precision, style, where="post", label=_plain(name), color=colour)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    return figure


def draw_reliability(labels: Sequence[int], scores: Sequence[float]) -> Figure:
    """Share of spam in each tenth of P(spam), and how many texts it holds."""
    filled = [row for row in reliability(labels, scores) if row.texts]
    points = np.array([(row.predicted, row.observed) for row in filled])
    figure, axes = _axes("P(spam)", "Share of spam")
    axes.plot([0, 1], [0, 1], color="#9ca3af", linestyle="--", linewidth=1)
    axes.plot(*points.T, "o-", color=_COLOURS[0])
    for row, (x, y) in zip(filled, points, strict=True):
        axes.annotate(
            f"{row.texts:,}",
            (x, y),
            textcoords="offset points",
            xytext=(0, 8),
            ha="center",
            fontsize=8,
        )
    axes.set_ylim(-0.05, 1.1)
    return figure


def draw_confusion(labels: Sequence[int], scores: Sequence[float]) -> Figure:
    """Verdicts at a threshold of 0.5 against labels, shaded by the share of their label."""
    counts = confusion_matrix(labels, np.asarray(scores) > 0.5, labels=[0, 1])
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure, axes = _axes("Verdict", "Label")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xticks([0, 1], LABELS)
    axes.set_yticks([0, 1], LABELS)
    for label, verdict in np.ndindex(2, 2):
        axes.text(
            verdict,
            label,
            f"{counts[label, verdict]:,}\n{shares[label, verdict]:.1%}",
            ha="center",
            va="center",
            color="white" if shares[label, verdict] > 0.5 else "black",
        )
    return figure


def _draw_curves(
    quantity: str,
    epochs: Sequence[float],
    examples: Sequence[int],
    curves: dict[str, list[float]],
) -> Figure:
    figure, axes = _axes("Epochs", quantity)
    # One point, as after an early Ctrl-C, has no line to show.
    marker = "o" if len(epochs) < 12 else ""
    for (name, values), style in zip(curves.items(), _STYLES, strict=False):
        axes.plot(epochs, values, style, marker=marker, markersize=4, label=name)
    axes.legend()
    figure.subplots_adjust(top=0.86)
    rate = examples[-1] / epochs[-1]
    seen = axes.secondary_xaxis("top", functions=(_scale(rate), _scale(1 / rate)))
    seen.set_xlabel("Examples seen")
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4))
    # A layout engine draws all of it once more to find such margins.
    figure.subplots_adjust(left=0.13, right=0.96, bottom=0.13, top=0.95)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _plain(name: str) -> str:
    """The name of a folder, which is neither mathematics nor left out of legends."""
    return " " * name.startswith("_") + name.replace("$", r"\$")


def _scale(factor: float) -> Callable[[ArrayLike], NDArray[np.float64]]:
    return lambda values: np.asarray(values, dtype=np.float64) * factor
