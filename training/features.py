"""python -m training.features RECIPE.toml --data ... --out FILE: what a teacher sees in each text.

The teacher is the frozen SmolLM2; its states after three of its layers, averaged over the tokens of
a text and reduced to their principal components, are what ``training.finetune --teacher FILE``
makes the small network predict beside the verdict, from texts as they are changed in training
(distillation of features: Romero et al., "FitNets", 2015). Only the recipe's training part is read.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from training.command import exit_code
from training.config import TrainingError, load_config
from training.corpora import CORPORA, Example, read_corpora
from training.data import split_examples
from training.teacher import pooled_states

# Principal components kept: of 1,728 columns they hold four fifths of the variance.
_COMPONENTS = 64


def reduce(states: NDArray[np.float32], components: int) -> NDArray[np.float32]:
    """The first principal components of standardized columns, each of variance 1.

    Args:
        states: (N, D).
        components: how many, at most the rank.
    """
    deviation = states.std(0)
    standard = (states - states.mean(0)) / np.where(deviation > 0, deviation, 1)
    _, directions = np.linalg.eigh(standard.T @ standard)  # ascending
    reduced: NDArray[np.float32] = standard @ directions[:, ::-1][:, :components]
    reduced /= reduced.std(0)
    return reduced


def digest(text: str) -> bytes:
    """What stands for a text in the file."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def save_features(path: Path, texts: Sequence[str], features: NDArray[np.float32]) -> None:
    """Writes features (N, D) and the digests of their texts (N, 32), as safetensors."""
    digests = np.frombuffer(b"".join(map(digest, texts)), np.uint8).reshape(-1, 32)
    tensors = {
        "features": torch.from_numpy(features).half(),
        "digests": torch.from_numpy(digests.copy()),
    }
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial)
    partial.rename(path)


def read_features(path: str | Path, examples: Sequence[Example]) -> Tensor:
    """Features (N, D), float32, of these texts in their order.

    Raises:
        TrainingError: no such file, not one of this command, or a text that it does not know.
    """
    try:
        tensors = load_file(path)
        features, digests = tensors["features"].float(), tensors["digests"].numpy()
    except (OSError, SafetensorError, KeyError) as error:
        raise TrainingError(f"{path} is no file of training.features: {error}") from error
    place = {bytes(row): number for number, row in enumerate(digests)}
    try:
        return features[[place[digest(example.text)] for example in examples]]
    except KeyError:
        raise TrainingError(
            f"{path} was made from other texts than this run's training part: make it anew with "
            "training.features, the same recipe and the same --data."
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[KIND=]PATH",
        help=f"as for training.finetune; KIND is one of {', '.join(CORPORA)}",
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    options = parser.parse_args(arguments)
    return exit_code("training.features", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.out.exists():
        raise TrainingError(f"{options.out} exists already: give another --out, or remove it.")
    config = load_config(options.recipe)
    splits = split_examples(read_corpora(options.data, config).examples, config)
    texts = [example.text for example in splits.train]
    with tqdm(total=len(texts), unit=" texts") as bar:
        states = pooled_states(texts, bar.update)
    save_features(options.out, texts, reduce(states, min(_COMPONENTS, *states.shape)))
    print(f"{len(texts)} texts, saved to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
