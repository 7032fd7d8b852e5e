"""python -m training.finetune RECIPE.toml: a pretrained GPT-2 becomes a spam classifier.

The recipe is a TOML file with the fields of TrainConfig. The result is a checkpoint folder that
the service takes, with run.json, plots and a model card beside the weights.
"""

import argparse
import errno
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.checkpoint import (
    CheckpointError,
    GoldenMessage,
    ReadToken,
    finalize,
    load_base,
    new_folder,
    save_classifier,
    write_golden,
)
from model.classifier import Classifier, DeviceError, pick_device
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, init_weights
from training.activations import ActivationCache
from training.card import GOLDEN_TEXTS, RunRecord, write_model_card, write_run_json
from training.config import TrainConfig, TrainingError, load_config
from training.corpora import Example, find_sms_file, read_sms, read_sms_as_the_book, sha256_of
from training.data import (
    Splits,
    TokenizedExample,
    make_loader,
    pad_to,
    split_examples,
    tokenize,
)
from training.evaluate import Metrics, as_table, measure
from training.freeze import freeze, num_frozen_blocks
from training.loop import Outcome, train
from training.plots import plot_accuracies, plot_losses

# Texts a batch where nothing is learnt and only speed matters.
_EVALUATION_BATCH = 64


@dataclass(frozen=True)
class TrainedClassifier:
    """A model at its best snapshot, which token it reads, and its figures on each part."""

    model: GPT2ForSequenceClassification
    read_token: ReadToken
    splits: Splits
    outcome: Outcome
    metrics: dict[str, Metrics]


def finetune(
    config: TrainConfig, examples: Sequence[Example], device: torch.device
) -> TrainedClassifier:
    """One training run from examples to a measured model.

    Raises:
        TrainingError: too few texts, or a loss that is not finite.
        CheckpointError: a base that cannot be used.
    """
    splits = split_examples(examples, config)
    parts = {name: tokenize(part, config.max_tokens) for name, part in vars(splits).items()}
    read_token: ReadToken = "last"
    if config.padding == "longest":
        longest = max(len(tokens) for tokens, _ in parts["train"])
        parts = {name: pad_to(part, longest) for name, part in parts.items()}
        read_token = longest - 1
    torch.manual_seed(config.seed)
    model = make_model(config).to(device)
    trained_parameters = freeze(model, config.trained)
    print(
        f"training {trained_parameters:,} of {sum(p.numel() for p in model.parameters()):,} "
        f"parameters on {device}: {splits.counts()}"
    )
    caches = _cache_activations(model, parts, config, device)
    # The book seeds again before the loaders and before the training.
    torch.manual_seed(config.seed)
    train_loader = make_loader(
        parts["train"],
        config.batch_size,
        training=True,
        token_dropout=config.token_dropout,
        cache=caches.get("train"),
    )
    validation_loader = make_loader(
        parts["validation"], config.batch_size, cache=caches.get("validation")
    )
    torch.manual_seed(config.seed)
    num_cached_blocks = caches["train"].num_blocks if caches else 0
    outcome = train(model, train_loader, validation_loader, config, device, num_cached_blocks)
    finalize(model, getattr(torch, config.storage_dtype))
    metrics = {name: _measure_part(model, part, device) for name, part in parts.items()}
    return TrainedClassifier(model.cpu(), read_token, splits, outcome, metrics)


def make_model(config: TrainConfig) -> GPT2ForSequenceClassification:
    """The base with a fresh two-class head, or random weights, from torch's global generator."""
    if config.base == "random":
        sizes = GPT2Config(n_layer=config.n_layer, n_head=config.n_head, n_embd=config.n_embd)
        model = GPT2ForSequenceClassification(sizes, head_bias=True)
        init_weights(model, sizes)
        return model
    backbone = load_base(config.base)
    if config.max_tokens > backbone.config.n_positions:
        raise TrainingError(
            f"max_tokens is {config.max_tokens}, {config.base} takes {backbone.config.n_positions}."
        )
    # The rest of this model is replaced by the base, so only the head costs memory and randomness.
    with torch.device("meta"):
        model = GPT2ForSequenceClassification(backbone.config, head_bias=True)
    model.transformer = backbone
    model.score = torch.nn.Linear(backbone.config.n_embd, 2)
    return model


def save_run(out: Path, config: TrainConfig, run: TrainedClassifier, record: RunRecord) -> None:
    """Writes the checkpoint folder of a run beside its final name, then renames it.

    Raises:
        CheckpointError: the folder exists.
    """
    with new_folder(out) as folder:
        storage_dtype: torch.dtype = getattr(torch, config.storage_dtype)
        save_classifier(folder, run.model, read_token=run.read_token, storage_dtype=storage_dtype)
        if run.read_token == "last":
            predictions = Classifier.load(folder, "cpu", "float32").classify(GOLDEN_TEXTS)
            golden = [
                GoldenMessage(text, prediction.spam_probability)
                for text, prediction in zip(GOLDEN_TEXTS, predictions, strict=True)
            ]
            write_golden(folder, golden)
        plot_losses(run.outcome.history, folder / "loss.png")
        if run.outcome.history.accuracies:
            plot_accuracies(run.outcome.history, folder / "accuracy.png")
        write_run_json(folder / "run.json", config, record)
        write_model_card(folder / "README.md", out.name, config, record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one recipe. Returns the exit code: 0, 2 for anything that cannot be done, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m training.finetune", description=__doc__)
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/")
    parser.add_argument("--data", type=Path, help="the SMS collection; without it, downloaded")
    parser.add_argument("--out", type=Path, help="new folder (default: runs/NAME_OF_RECIPE)")
    parser.add_argument("--base", help="folder or hub id, instead of the recipe's")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (TrainingError, CheckpointError, DeviceError) as error:
        print(f"training.finetune: {error}", file=sys.stderr)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("training.finetune: no space left on the disk; nothing was saved.", file=sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
    config = load_config(
        options.recipe, seed=options.seed, base=options.base, epochs=options.epochs
    )
    out: Path = options.out or Path("runs") / options.recipe.stem
    if out.exists():  # found now rather than after the training
        raise CheckpointError(f"{out} exists already: give another --out, or remove it first.")
    device = pick_device(options.device)
    data = find_sms_file(options.data, config.data_urls, config.data_sha256)
    read = read_sms_as_the_book if config.selection == "book" else read_sms
    run = finetune(config, read(data), device)
    record = RunRecord.of(run.splits, run.outcome, run.metrics, {data.name: sha256_of(data)})
    save_run(out, config, run, record)
    print(as_table(run.metrics))
    print(
        f"best snapshot: step {run.outcome.snapshot.step}, validation loss "
        f"{run.outcome.snapshot.validation_loss:.4f}; {run.outcome.seconds:.0f} s, "
        f"{run.outcome.examples_per_second:.0f} examples/s"
    )
    print(f"saved to {out}" + (" (interrupted)" if run.outcome.interrupted else ""))
    return 130 if run.outcome.interrupted else 0


def _cache_activations(
    model: GPT2ForSequenceClassification,
    parts: dict[str, list[TokenizedExample]],
    config: TrainConfig,
    device: torch.device,
) -> dict[str, ActivationCache]:
    """Activations of the parts that training reads again and again; none where it saves nothing."""
    num_blocks = num_frozen_blocks(config.trained, model.config.n_layer)
    if num_blocks < 1 or config.token_dropout or not config.cached_activations:
        return {}
    return {
        name: ActivationCache(
            model,
            [tokens for tokens, _ in parts[name]],
            num_blocks,
            device,
            config.cache_memory_bytes // 2,
        )
        for name in ("train", "validation")
    }


def _measure_part(
    model: GPT2ForSequenceClassification, part: list[TokenizedExample], device: torch.device
) -> Metrics:
    labels: list[int] = []
    probabilities: list[float] = []
    with torch.inference_mode():
        for batch in make_loader(part, _EVALUATION_BATCH):
            logits = model(batch.packed.to(device))
            probabilities += logits.float().softmax(-1)[:, 1].tolist()
            labels += batch.labels.tolist()
    return measure(labels, probabilities)


if __name__ == "__main__":
    sys.exit(main())
