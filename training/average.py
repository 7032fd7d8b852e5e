"""python -m training.average RUN RUN ...: one classifier with the mean of several runs' weights.

A run that is named twice weighs twice; an average may be averaged again.
The runs are fine-tunings of one base on one split, with other seeds or other recipes, or one is
what another started from: their average keeps what both are good at. It makes fewer mistakes than
most of them and costs no more than one. Cut-offs and figures are computed anew, and calibration
where one of the runs was calibrated; nothing is chosen by the test part. Sources: Wortsman et al.,
"Model soups" and "Robust fine-tuning of zero-shot models", both 2022.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import Checkpoint, load_classifier
from model.devices import pick_device
from model.folders import CheckpointError
from model.gpt2 import GPT2ForSequenceClassification
from model.ngrams import NgramTable
from training.card import RunRecord, as_decisions
from training.command import add_device, add_run_data, check_new, exit_code
from training.config import TrainConfig
from training.corpora import read_corpora
from training.data import split_examples, tokenize_parts
from training.evaluate import as_table
from training.feedback import mix_in
from training.finetune import save_run
from training.history import History
from training.loop import Outcome, Snapshot
from training.measuring import measure_model
from training.provenance import (
    SPLIT_KEYS,
    check_data,
    learnt_by_all,
    other_version,
    recorded_recipe,
)

# Other bases have no mean, and of other splits one run's test texts are another's training texts.
_SHARED = (
    *("corpora", "data_sha256", *SPLIT_KEYS),
    *("max_tokens", "read_token", "padding", "causal_mask"),
)


def average_runs(
    checkpoints: Sequence[Checkpoint],
) -> tuple[TrainConfig, GPT2ForSequenceClassification]:
    """The first run's recipe, calibrating if one of theirs does, and a model whose every tensor is
    the mean of the runs'.

    Raises:
        CheckpointError: fewer than two, one without run.json, or of another base, split or size.
    """
    if len(checkpoints) < 2:
        raise CheckpointError("an average takes at least two runs.")
    recipes = [recorded_recipe(checkpoint.run, checkpoint.name) for checkpoint in checkpoints]
    _refuse_unlike(checkpoints, recipes)
    _refuse_other_beginnings(checkpoints, recipes)
    states = [checkpoint.model.state_dict() for checkpoint in checkpoints]
    mean: dict[str, Tensor] = {
        name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]
    }
    model = checkpoints[0].model
    model.load_state_dict(mean)
    model.read = recipes[0].read_token
    tables = [c.model.ngrams.weight for c in checkpoints if c.model.ngrams is not None]
    if tables:
        model.ngrams = NgramTable(torch.stack(tables).mean(0))
    calibrate = any(recipe.calibrate for recipe in recipes)
    return recipes[0].model_copy(update={"calibrate": calibrate}), model


def _refuse_unlike(checkpoints: Sequence[Checkpoint], recipes: Sequence[TrainConfig]) -> None:
    """Refuses runs that differ from the first in split or size."""
    for checkpoint, recipe in zip(checkpoints, recipes, strict=True):
        for key in _SHARED:
            first, own = getattr(recipes[0], key), getattr(recipe, key)
            if own != first:
                raise CheckpointError(
                    f"{checkpoint.name} has {key} = {own!r}, {checkpoints[0].name} has {first!r}: "
                    "only runs on one split can be averaged."
                )
        if checkpoint.model.config != checkpoints[0].model.config:
            raise CheckpointError(f"{checkpoint.name} has another size than the first run.")
        first_table, table = (_num_buckets(c) for c in (checkpoints[0], checkpoint))
        if table != first_table:
            raise CheckpointError(
                f"{checkpoint.name} has a table of {table:,} n-grams, {checkpoints[0].name} one of "
                f"{first_table:,}: take runs that kept one head."
            )


def _refuse_other_beginnings(
    checkpoints: Sequence[Checkpoint], recipes: Sequence[TrainConfig]
) -> None:
    """Refuses runs whose first weights differ: what they learnt lies in different places."""
    # What started from another of them has its base there; that one's counts.
    firsts = [
        (recipe, checkpoint.run.get("base_sha256"))
        for checkpoint, recipe in zip(checkpoints, recipes, strict=True)
        if not _starts_from_one_of(checkpoint, recipe, checkpoints)
    ]
    bases, hashes = sorted({str(Path(r.base)) for r, _ in firsts}), {sha256 for _, sha256 in firsts}
    drawn = {r.seed if r.base == "random" or r.random_weights else None for r, _ in firsts}
    if len(hashes - {None}) > 1 or (None in hashes and len(bases) > 1) or len(drawn) > 1:
        how = ", drawn by different seeds" if len(drawn - {None}) > 1 else ""
        raise CheckpointError(
            f"the runs began with different weights, of {', '.join(bases)}{how}: only runs from "
            "one base, or one run and what started from it, can be averaged."
        )


def _starts_from_one_of(
    checkpoint: Checkpoint, recipe: TrainConfig, others: Sequence[Checkpoint]
) -> bool:
    """Whether a run's base is another of the runs: by its weights, or, where they are not told, by
    name."""
    if sha256 := checkpoint.run.get("base_sha256"):
        return any(other.sha256 == sha256 for other in others)
    name = Path(recipe.base).name
    return any(Path(other.name).name == name for other in others if other is not checkpoint)


def _num_buckets(checkpoint: Checkpoint) -> int:
    """How many buckets of each kind the table has; 0 where there is none."""
    table = checkpoint.model.ngrams
    return 0 if table is None else table.weight.shape[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the average as a checkpoint folder. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.average", description=__doc__)
    parser.add_argument("runs", nargs="+", help="checkpoint folders of training.finetune")
    add_run_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.average", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_new(options.out)
    device = pick_device(options.device)
    checkpoints = [load_classifier(run) for run in options.runs]
    config, model = average_runs(checkpoints)
    for checkpoint in checkpoints:
        _check_record(checkpoint)
    corpus = mix_in(read_corpora(options.data, config), options.feedback)
    for checkpoint in checkpoints:
        check_data(checkpoint.run, checkpoint.name, config, corpus.sha256)
    splits = split_examples(corpus.examples, config).for_network()
    parts, read_token = tokenize_parts(splits, config)
    outcome = _outcome(checkpoints)
    exact = config.model_copy(update={"precision": "float32"})
    run = measure_model(model, read_token, splits, parts, outcome, exact, device)
    outcome.snapshot.validation_loss = run.metrics["validation"].loss
    told = _told(checkpoints)
    facts = run.facts
    if not config.calibrate and not all("spam_prior" in c.run for c in checkpoints):
        facts = {key: fact for key, fact in facts.items() if key != "spam_prior"}
    facts = facts | {"base_run": learnt_by_all(checkpoint.run for checkpoint in checkpoints)}
    bases = {checkpoint.run.get("base_sha256") for checkpoint in checkpoints}
    if len(bases) == 1:
        facts = facts | {"base_sha256": bases.pop()}
    record = RunRecord.of(
        run.splits, outcome, run.metrics, facts, corpus.sha256, told, is_average=True
    )
    save_run(options.out, config, run, record)
    print(as_table(run.metrics))
    print(as_decisions(record))
    print(f"average of {len(checkpoints)} runs, saved to {options.out}")
    return 0


def _check_record(checkpoint: Checkpoint) -> None:
    """Refuses a run whose run.json lacks what an average tells of it, before the work.

    Raises:
        CheckpointError: such a run.
    """
    try:
        _outcome([checkpoint])
        _told([checkpoint])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise other_version(checkpoint.name, error) from error


def _outcome(checkpoints: Sequence[Checkpoint]) -> Outcome:
    """What the runs took together, each once; an average has no curve of its own."""
    runs = list({checkpoint.sha256: checkpoint.run for checkpoint in checkpoints}.values())
    seconds = sum(float(run["training_seconds"]) for run in runs)
    rate = sum(float(run["examples_per_second"]) for run in runs) / len(runs)
    step = max(int(run["best_step"]) for run in runs)
    interrupted = any(run.get("interrupted", False) for run in runs)
    return Outcome(History(), Snapshot(step), seconds, rate, interrupted)


def _told(checkpoints: Sequence[Checkpoint]) -> list[dict[str, object]]:
    """Each run that is in the average, with its seed, its figures and its weight."""
    told: list[dict[str, object]] = []
    shares = Counter(checkpoint.sha256 for checkpoint in checkpoints)
    for checkpoint in {c.sha256: c for c in checkpoints}.values():
        weight = shares[checkpoint.sha256] / len(checkpoints)
        run = checkpoint.run
        if run.get("is_average"):
            parts = run["seeds"]
            told += [
                part | {"weight": weight * part.get("weight", 1 / len(parts))} for part in parts
            ]
            continue
        figures = {name: metrics["mcc"] for name, metrics in run["metrics"].items()}
        loss = run["best_validation_loss"]
        seed = run["recipe"]["seed"]
        told.append({"seed": seed, "best_validation_loss": loss, "mcc": figures, "weight": weight})
    return told


if __name__ == "__main__":
    sys.exit(main())
