"""python -m training.transplant RECIPE.toml: GPT-2's vocabulary gets another model's embeddings.

The start of the project's own base: a random GPT-2 whose token embeddings are those of SmolLM2,
token by token where both spell one alike, reduced to its width. What words mean is known then
before the first step (vocabulary transfer: Minixhofer et al., "WECHSEL", 2022; Dobler and de Melo,
"FOCUS", 2023). The recipe is that of ``training.pretrain``, of which the sizes and seed are used.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import save_language_model
from model.folders import new_folder, write_json
from model.tokenizer import VOCAB_SIZE, token_bytes
from training.command import check_new, exit_code
from training.config import TrainingError, read_recipe
from training.pretrain_config import PretrainConfig
from training.pretrain_loop import random_model
from training.teacher import read_embeddings

# Standard deviation of the embeddings' entries: larger than random ones, since they mean something.
_EMBEDDING_STD = 0.05


def transplant(
    tokens: Sequence[bytes | None], embeddings: NDArray[np.float32], width: int
) -> tuple[NDArray[np.float32], int]:
    """Embeddings for GPT-2's vocabulary.

    Args:
        tokens: the other vocabulary, as bytes.
        embeddings: (V', C'), of those tokens.
        width: C, at most C'.

    Returns:
        (V, C), the principal components of what was found, and how many tokens both spell alike.
        The others are the mean of their longest pieces.

    Raises:
        TrainingError: the width is more than C'.
    """
    if width > embeddings.shape[1]:
        raise TrainingError(
            f"n_embd is {width}, the other model's embeddings have {embeddings.shape[1]} columns: "
            "write that, or less, in the recipe."
        )
    numbers = {token: number for number, token in enumerate(tokens) if token}
    found = np.zeros((VOCAB_SIZE, embeddings.shape[1]), np.float32)
    matches = 0
    for number in range(VOCAB_SIZE):
        token = token_bytes(number)
        matches += token in numbers
        found[number] = embeddings[_pieces(token, numbers)].mean(0)
    centred = found - found.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    reduced = centred @ directions[:, ::-1][:, :width]
    return (reduced * (_EMBEDDING_STD / reduced.std())).astype(np.float32), matches


def _pieces(token: bytes, numbers: dict[bytes, int]) -> list[int]:
    """The token in the other vocabulary, longest pieces first from the left."""
    pieces = []
    while token:
        end = next((n for n in range(len(token), 0, -1) if token[:n] in numbers), 0)
        if end:
            pieces.append(numbers[token[:end]])
        token = token[max(end, 1) :]
    return pieces or [0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the base folder. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.transplant", description=__doc__)
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/pretrain/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    return exit_code("training.transplant", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_new(options.out)
    config = read_recipe(options.recipe, PretrainConfig)
    torch.manual_seed(config.seed)
    model = random_model(config)
    weights, matches = transplant(*read_embeddings(), config.n_embd)
    with torch.no_grad():
        model.transformer.wte.weight.copy_(torch.from_numpy(weights))
    with new_folder(options.out) as folder:
        save_language_model(folder, model)
        facts = {"embeddings_of": "SmolLM2-135M-Instruct (Apache-2.0)", "same_tokens": matches}
        write_json(folder / "run.json", {"recipe": config.model_dump(mode="json")} | facts)
    print(f"{matches:,} of {VOCAB_SIZE:,} tokens are spelled alike; saved to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
