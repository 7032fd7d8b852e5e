"""python -m training.report RUN_FOLDER --data [KIND=]PATH: one run as one HTML file.

Repeats the run's split and its predictions on the test part, trains the bag-of-words models on the
same split, and writes figures, plots and the worst errors into a page that needs no other file.
"""

import argparse
import base64
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from model.checkpoint import load_classifier
from model.devices import pick_device
from model.folders import CheckpointError, new_file
from model.gpt2 import LABELS
from model.hub import resolve
from model.windows import MAX_WINDOWS, encode_windows
from training.baselines import fit_baselines
from training.command import add_device, add_run_data, check_folder, exit_code
from training.config import TrainConfig
from training.corpora import read_corpora
from training.cutoffs import as_cutoff
from training.data import Splits, split_examples, tokenize_parts
from training.evaluate import FIGURES, Measured, as_cell, measure_with_intervals
from training.feedback import mix_in
from training.history import AccuracyPoint, History, LossPoint
from training.measuring import read_as_trained
from training.plots import (
    draw_accuracies,
    draw_confusion,
    draw_losses,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
)
from training.provenance import other_data, other_version, recorded_recipe

# What the share of spam among the texts changes; all else is the same in a balanced set.
_MIX_DEPENDENT = ("accuracy", "mcc", "f1", "calibration_error", "calibration_noise", "loss")
_SHOWN_ERRORS = 25


@dataclass(frozen=True)
class Run:
    """A finished run, its split and what each system says of the test part.

    Attributes:
        name: the folder's.
        facts: ``run.json``.
        told: what the page tells of it, by name.
        config: the recipe in it.
        history: the curves in it.
        splits: as the run had them.
        num_tokens: of each test text that went through the model, as in ``Prediction``.
        systems: P(spam) of each test text by system; the run's own first, then the bag of words.
    """

    name: str
    facts: dict[str, Any]
    told: dict[str, str]
    config: TrainConfig
    history: History
    splits: Splits
    num_tokens: list[int]
    systems: dict[str, list[float]]

    @property
    def labels(self) -> list[int]:
        """0 ham, 1 spam, of each test text."""
        return [example.label for example in self.splits.test]

    @property
    def spam_probabilities(self) -> list[float]:
        """The run's own P(spam) of each test text."""
        return self.systems[self.name]


@dataclass(frozen=True)
class Mistake:
    """A wrong verdict on a test text; ``text`` is None where texts are not to be shown."""

    number: int
    label: str
    spam_probability: float
    num_tokens: int
    text: str | None


def load_run(
    folder: Path, places: Sequence[str], device: torch.device, feedback: Sequence[Path] = ()
) -> Run:
    """Reads a run folder and repeats its predictions on the data it was made from.

    Args:
        folder: of ``training.finetune``, or of ``training.average``.
        places: as for ``read_corpora``.
        device: where to compute.
        feedback: the files that were mixed in, if any.

    Raises:
        CheckpointError: not such a folder, or a ``run.json`` that lacks what is told of it.
        TrainingError: other data than the run's.
    """
    checkpoint = load_classifier(folder)
    config = recorded_recipe(checkpoint.run, checkpoint.name)
    facts = checkpoint.run
    try:
        history = History(
            [LossPoint(**point) for point in facts["history"]["losses"]],
            [AccuracyPoint(**point) for point in facts["history"]["accuracies"]],
        )
        sha256 = dict(facts["data_sha256"])
        told = _told(facts, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise other_version(checkpoint.name, error) from error
    corpus = mix_in(read_corpora(places, config), feedback)
    if sorted(corpus.sha256.values()) != sorted(sha256.values()):
        raise other_data(checkpoint.name, sha256, corpus.sha256)
    splits = split_examples(corpus.examples, config)
    model = checkpoint.model.to(device)
    systems = {checkpoint.name: read_as_trained(model, splits.test, splits, config, device)}
    baselines = fit_baselines(splits, config.seed)
    systems |= {name: score(splits.test) for name, score in baselines.items()}
    num_tokens = _num_tokens(splits, config, model.config.n_positions)
    return Run(checkpoint.name, facts, told, config, history, splits, num_tokens, systems)


def _told(facts: dict[str, Any], config: TrainConfig) -> dict[str, str]:
    """What the page tells of a ``run.json``; of any other form than training's, it raises."""
    base = f"random weights, {config.n_layer} blocks of width {config.n_embd}"
    if config.base != "random":
        base = "random weights of the sizes of " * config.random_weights + config.base
    counts = (f"{part}: {n['ham']} ham, {n['spam']} spam" for part, n in facts["counts"].items())
    data = (f"{name}, SHA-256 {sha256}" for name, sha256 in facts["data_sha256"].items())
    ham_below, spam_from = (facts["cutoffs"][key] for key in ("ham_below", "spam_from"))
    time = f"{facts['training_seconds']} s, {facts['examples_per_second']} texts/s"
    versions = (f"{name} {version}" for name, version in facts["versions"].items())
    return {
        "Base": base,
        "Trained": config.trained,
        "Texts": "; ".join(counts),
        "Data": "; ".join(data),
        "Seeds": f"training {config.seed}, split {config.split_seed}",
        "Cut-offs": f"ham below {as_cutoff(ham_below)}, spam from {as_cutoff(spam_from)}; the "
        "figures here are at 0.5",
        "Snapshot": f"step {facts['best_step']}, validation loss "
        f"{facts['best_validation_loss']:.4f}",
        "Time": time + ", interrupted" * facts["interrupted"],
        "Finished": str(facts["finished"]),
        "Versions": ", ".join(versions),
    }


def _num_tokens(splits: Splits, config: TrainConfig, n_positions: int) -> list[int]:
    """Tokens of each test text as ``read_as_trained`` has the model read it."""
    if not config.is_served:
        return [len(tokens) for tokens, _ in tokenize_parts(splits, config)[0]["test"]]
    texts = (encode_windows(example.text, n_positions, MAX_WINDOWS) for example in splits.test)
    return [sum(len(window.token_ids) for window in text.windows) for text in texts]


def worst_mistakes(run: Run, *, show_texts: bool) -> list[Mistake]:
    """The wrong verdicts on the test part, the surest first."""
    mistakes = [
        Mistake(number, LABELS[example.label], p, num_tokens, example.text if show_texts else None)
        for number, (example, p, num_tokens) in enumerate(
            zip(run.splits.test, run.spam_probabilities, run.num_tokens, strict=True)
        )
        if (p > 0.5) != (example.label == 1)
    ]
    return sorted(mistakes, key=lambda m: -abs(m.spam_probability - 0.5))


def render(run: Run, *, show_texts: bool) -> str:
    """The page."""
    natural, balanced = (
        {
            name: measure_with_intervals(run.labels, scores, balanced=balanced)
            for name, scores in run.systems.items()
        }
        for balanced in (False, True)
    )
    mistakes = worst_mistakes(run, show_texts=show_texts)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("report.html")
    page: str = template.render(
        run=run,
        headlines=_headlines(natural[run.name]),
        natural=_rows(natural, FIGURES),
        balanced=_rows(balanced, _MIX_DEPENDENT),
        curves={
            title: _image(draw(run.history))
            for title, points, draw in (
                ("Loss", run.history.losses, draw_losses),
                ("Accuracy", run.history.accuracies, draw_accuracies),
            )
            if points  # an average has none, and a run that ended in its first epoch no accuracies
        },
        plots={
            "ROC": _image(draw_roc(run.labels, run.systems)),
            "Precision and recall": _image(draw_precision_recall(run.labels, run.systems)),
            "Reliability": _image(draw_reliability(run.labels, run.spam_probabilities)),
            "Confusion": _image(draw_confusion(run.labels, run.spam_probabilities)),
        },
        mistakes=mistakes[:_SHOWN_ERRORS],
        num_mistakes=len(mistakes),
        num_ham=run.labels.count(0),
        show_texts=show_texts,
    )
    return page


def _headlines(measured: Measured) -> list[tuple[str, str, str]]:
    """Name, value and interval of the figures that one looks for first."""
    names = ("accuracy", "spam_caught", "ham_blocked", "mcc", "spam_missed_at_1_percent")
    return [(FIGURES[name][0], *as_cell(measured, name)) for name in names]


def _rows(
    systems: dict[str, Measured], metrics: Sequence[str] | dict[str, Any]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each metric its name and, by system, value and interval."""
    return [
        (FIGURES[metric][0], [as_cell(measured, metric) for measured in systems.values()])
        for metric in metrics
    ]


def _image(figure: Figure) -> str:
    """A figure as the data URI of an SVG, the same bytes each time."""
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "spamgate"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.report", description=__doc__)
    parser.add_argument("run", type=Path, help="folder that training.finetune wrote")
    add_run_data(parser)
    parser.add_argument("--out", type=Path, help="file to write (default: RUN/report.html)")
    parser.add_argument(
        "--show-texts", action="store_true", help="print the texts of the worst errors as well"
    )
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.report", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    folder = resolve(options.run)
    out: Path = options.out or folder / "report.html"
    if out.exists() and not out.is_file():  # a folder, or a device, which a rename would replace
        raise CheckpointError(f"{out} is not a file: give another --out.")
    check_folder(out)
    run = load_run(folder, options.data, pick_device(options.device), options.feedback)
    page = render(run, show_texts=options.show_texts)
    with new_file(out) as partial:
        # A lone surrogate has no place in UTF-8; the page shows a question mark.
        partial.write_text(page, encoding="utf-8", errors="replace")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
