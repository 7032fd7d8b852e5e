"""Plots of one run, as in the book: against epochs, with a second axis of examples seen."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from training.loop import History


def plot_losses(history: History, path: Path) -> None:
    """Draws training and validation loss."""
    points = history.losses
    _plot_curves(
        path,
        "Loss (nats)",
        [p.epoch for p in points],
        [p.examples for p in points],
        {
            "training": [p.train_loss for p in points],
            "validation": [p.validation_loss for p in points],
        },
    )


def plot_accuracies(history: History, path: Path) -> None:
    """Draws training and validation accuracy."""
    points = history.accuracies
    _plot_curves(
        path,
        "Accuracy",
        [p.epoch for p in points],
        [p.examples for p in points],
        {
            "training": [p.train_accuracy for p in points],
            "validation": [p.validation_accuracy for p in points],
        },
    )


def _plot_curves(
    path: Path,
    quantity: str,
    epochs: Sequence[float],
    examples: Sequence[int],
    curves: dict[str, list[float]],
) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    # One point, as after an early Ctrl-C, has no line to show.
    marker = "o" if len(epochs) < 12 else ""
    for (name, values), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(epochs, values, style, marker=marker, markersize=4, label=name)
    axes.set_xlabel("Epochs")
    axes.set_ylabel(quantity)
    axes.grid(alpha=0.3)
    axes.legend()
    if epochs and epochs[-1] > 0:
        rate = examples[-1] / epochs[-1]
        to_examples = _scale(rate), _scale(1 / rate)
        seen = axes.secondary_xaxis("top", functions=to_examples)
        seen.set_xlabel("Examples seen")
    figure.savefig(path, dpi=120)


def _scale(factor: float) -> Callable[[ArrayLike], NDArray[np.float64]]:
    return lambda values: np.asarray(values, dtype=np.float64) * factor
