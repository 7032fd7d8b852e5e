"""python -m training.finetune RECIPE.toml: a pretrained GPT-2 becomes a spam classifier.

The recipe is a TOML file with the fields of TrainConfig. The result is a checkpoint folder that
the service takes, with run.json, plots and a model card beside the weights. Under torchrun several
processes share the work.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from model.checkpoint import save_classifier
from model.classifier import store_golden
from model.devices import pick_device
from model.folders import new_folder
from training.card import (
    GOLDEN_TEXTS,
    RunRecord,
    as_decisions,
    circumstances,
    write_model_card,
    write_run_json,
)
from training.command import CtrlC, add_device, check_new, exit_code
from training.config import TrainConfig, TrainingError, load_config, refuse_seeds
from training.corpora import CORPORA, read_corpora
from training.evaluate import as_table
from training.feedback import mix_in
from training.measuring import TrainedClassifier
from training.parallel import is_first, processes
from training.plots import draw_accuracies, draw_losses
from training.provenance import check_split, read_base_run
from training.seeds import as_table as as_seeds_table
from training.seeds import finetune_seeds


def save_run(out: Path, config: TrainConfig, run: TrainedClassifier, record: RunRecord) -> None:
    """Writes the checkpoint folder of a run beside its final name, then renames it.

    Raises:
        CheckpointError: the folder exists.
    """
    with new_folder(out) as folder:
        storage_dtype: torch.dtype = getattr(torch, config.storage_dtype)
        save_classifier(
            folder,
            run.model,
            read_token=run.read_token,
            causal_mask=config.causal_mask,
            temperature=run.temperature,
            shift=run.shift,
            storage_dtype=storage_dtype,
        )
        if config.is_served:
            store_golden(folder, GOLDEN_TEXTS)
        if run.outcome.history.losses:
            draw_losses(run.outcome.history).savefig(folder / "loss.png", dpi=120)
        if run.outcome.history.accuracies:
            draw_accuracies(run.outcome.history).savefig(folder / "accuracy.png", dpi=120)
        write_run_json(folder / "run.json", config, record)
        has_table = run.model.ngrams is not None
        write_model_card(folder / "README.md", out.name, config, record, has_table=has_table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one recipe. Returns the exit code: 0, 2 for anything that cannot be done, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m training.finetune", description=__doc__)
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[KIND=]PATH",
        help="what to train on, once for each of the recipe's corpora; KIND is one of "
        f"{', '.join(CORPORA)} (default: sms); without it, the SMS collection is downloaded",
    )
    parser.add_argument(
        "--feedback",
        type=Path,
        action="append",
        default=[],
        help="labels of POST /feedback, to be mixed in; repeatable",
    )
    parser.add_argument("--out", type=Path, help="new folder (default: runs/NAME_OF_RECIPE)")
    parser.add_argument("--base", help="folder or hub id, instead of the recipe's")
    parser.add_argument("--teacher", help="file of training.features, instead of the recipe's")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument(
        "--seeds", type=int, default=1, help="train with so many, keep the best by validation loss"
    )
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    add_device(parser)
    options = parser.parse_args(arguments)
    return exit_code("training.finetune", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    config = load_config(
        options.recipe,
        seed=options.seed,
        base=options.base,
        teacher=options.teacher,
        epochs=options.epochs,
    )
    out: Path = options.out or Path("runs") / options.recipe.stem
    check_new(out)
    with processes(pick_device(options.device)) as device:
        return _train_and_save(options, config, out, device)


def _train_and_save(
    options: argparse.Namespace, config: TrainConfig, out: Path, device: torch.device
) -> int:
    refuse_seeds(config, options.seeds)
    if options.feedback and config.selection == "book":
        raise TrainingError(
            'feedback needs a recipe with selection = "all": the draw of the book does not see '
            "that two texts are equal, and could put one into training and test, with two labels."
        )
    corpus = read_corpora(options.data, config)
    corpus = mix_in(corpus, options.feedback)
    check_split(read_base_run(config), config.base, config, corpus.sha256)
    how = circumstances(config, device)
    with CtrlC() as ctrl_c:
        config, run, seeds, failed = finetune_seeds(
            config, options.seeds, corpus.examples, device, ctrl_c
        )
        told = [vars(result) for result in seeds]
        record = RunRecord.of(
            run.splits, run.outcome, run.metrics, run.facts | how, corpus.sha256, told
        )
        if is_first():
            save_run(out, config, run, record)
    if options.seeds > 1:
        print(f"{as_seeds_table(seeds)}\nkept seed {config.seed}, by validation loss")
    print(as_table(run.metrics))
    alone = " of the network alone" if run.model.ngrams else ""
    print(
        f"saved weights: step {run.outcome.snapshot.step}, validation loss{alone} "
        f"{run.outcome.snapshot.validation_loss:.4f}; {run.outcome.seconds:.0f} s, "
        f"{run.outcome.examples_per_second:.0f} examples/s"
    )
    print(as_decisions(record))
    if failed is not None:
        print(f"saved to {out} (stopped early: seed {failed} failed)")
        return 2
    interrupted = ctrl_c.was_noted or seeds[-1].interrupted or len(seeds) < options.seeds
    print(f"saved to {out}" + (" (interrupted)" if interrupted else ""))
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
