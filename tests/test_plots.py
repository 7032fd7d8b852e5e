"""Plots: what is drawn where, read from the figures."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from training.history import History, LossPoint
from training.plots import (
    draw_confusion,
    draw_losses,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
)

LABELS = [0, 0, 0, 0, 1, 1]
SCORES = [0.1, 0.2, 0.3, 0.7, 0.6, 0.95]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("draw", [draw_roc, draw_precision_recall])
def test_systems_differ_not_only_in_colour(draw: Callable[..., Figure]) -> None:
    figure = draw(LABELS, dict.fromkeys(("one", "two", "three"), SCORES))
    assert len({line.get_linestyle() for line in figure.axes[0].lines}) == 3


def test_what_blocks_no_ham_stands_at_the_left_end_of_the_roc() -> None:
    axes = draw_roc(LABELS, {"one": SCORES}).axes[0]
    assert axes.get_xlim() == pytest.approx((0.5 / 4, 1))
    blocked, caught = (np.asarray(values) for values in axes.lines[0].get_data())
    assert blocked.min() == 0.5 / 4
    assert caught[blocked == 0.5 / 4].max() == 0.5


def test_confusion_counts_verdicts_at_one_half() -> None:
    assert texts(draw_confusion(LABELS, SCORES)) == ["3\n75.0%", "1\n25.0%", "0\n0.0%", "2\n100.0%"]


def test_reliability_has_a_point_for_each_tenth_that_holds_texts() -> None:
    figure = draw_reliability([0, 0, 1, 1], [0.02, 0.04, 0.07, 1.0])
    said, was = figure.axes[0].lines[1].get_data()
    assert np.asarray(said) == pytest.approx([0.13 / 3, 1])
    assert np.asarray(was) == pytest.approx([1 / 3, 1])
    assert texts(figure) == ["3", "1"]


def test_losses_tell_the_examples_seen_above_the_epochs() -> None:
    points = [LossPoint(1, 0.5, 40, 0.7, 0.8, 0.9), LossPoint(2, 1.0, 80, 0.5, 0.6, 0.7)]
    figure = draw_losses(History(losses=points))
    figure.draw_without_rendering()
    assert [np.asarray(line.get_ydata())[0] for line in figure.axes[0].lines] == [0.7, 0.8, 0.9]
    [above] = figure.axes[0].child_axes
    assert above.get_xlim() == pytest.approx([80 * x for x in figure.axes[0].get_xlim()])


@pytest.mark.parametrize("draw", [draw_roc, draw_precision_recall])
def test_any_name_of_a_folder_stands_in_the_legend(draw: Callable[..., Figure]) -> None:
    figure = draw(LABELS, dict.fromkeys(("_mine", "$\\b$"), SCORES))
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 2
    figure.canvas.draw()
