"""python -m training.features RECIPE.toml --data KIND=PATH ... --out FILE: what a teacher sees.

The teacher is the frozen SmolLM2; its states after two of its layers, reduced to their principal
components, are what ``training.pretrain --teacher FILE`` makes the small network predict beside the
next token, at every token that ends where one of the teacher's does (distillation of features:
Romero et al., "FitNets", 2015; Jiao et al., "TinyBERT", 2020). The recipe and the data are those of
``training.pretrain``; what is held back there is read, too, to tell how much was learnt. From the
same file a recipe of ``training.finetune`` with ``distillation`` keeps it.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from model.folders import new_file
from model.packing import PackedBatch, pack
from model.published import write_tensors
from training.command import add_sources, check_new, exit_code
from training.config import TrainingError, read_recipe
from training.corpora import Source, sha256_of
from training.documents import TextSplit, Window, read_sources
from training.pretrain_config import PretrainConfig
from training.teacher import MOST_TOKENS, TokenStates, token_states

# Principal components kept, of 1,152 columns.
_COMPONENTS = 192
# Windows of which every so many tokens say which components these are.
_SAMPLED_WINDOWS = 4000
_SAMPLED_EVERY = 4
# Standard deviations; a few columns of such networks reach hundreds.
_MOST_DEVIATION = 6.0

Seen = tuple[NDArray[np.int16], NDArray[np.float16]]
"""Tokens of a window, ascending (P,), and what the teacher saw there (P, K)."""


@dataclass(frozen=True)
class Reduction:
    """Columns to principal components of clipped, standardized columns.

    Attributes:
        mean: (D,).
        deviation: (D,), positive.
        directions: (D, K), scaled so that the components' mean variance is 1; the first ones keep
            the larger share of it.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def of(cls, states: NDArray[np.float32], components: int) -> Self:
        """That of these states (N, D) with so many components, at most D."""
        deviation = states.std(0)
        mean, deviation = states.mean(0), np.where(deviation > 0, deviation, 1)
        standard = _standardize(states, mean, deviation)
        variances, directions = np.linalg.eigh(standard.T @ standard / len(standard))  # ascending
        kept = directions[:, ::-1][:, :components]
        return cls(mean, deviation, kept / np.sqrt(variances[::-1][:components].mean()))

    def __call__(self, states: NDArray[np.float16]) -> NDArray[np.float16]:
        """(N, D) to (N, K)."""
        standard = _standardize(states.astype(np.float32), self.mean, self.deviation)
        return (standard @ self.directions).astype(np.float16)


def _standardize(
    states: NDArray[np.float32], mean: NDArray[np.float32], deviation: NDArray[np.float32]
) -> NDArray[np.float32]:
    standard: NDArray[np.float32] = ((states - mean) / deviation).astype(np.float32)
    return standard.clip(-_MOST_DEVIATION, _MOST_DEVIATION)


@dataclass(frozen=True)
class Lesson:
    """A batch of texts, and what the teacher saw in them.

    Attributes:
        batch: B beginnings of windows, T tokens.
        rows: int64 (P,), the tokens where it saw something, of T.
        features: float32 (P, K), there.
    """

    batch: PackedBatch
    rows: Tensor
    features: Tensor

    def to(self, device: torch.device) -> "Lesson":
        """The same on another device."""
        return Lesson(self.batch.to(device), self.rows.to(device), self.features.to(device))


class Lessons:
    """What the teacher saw in each window of a file of this command."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            TrainingError: no such file, or not one of this command.
        """
        try:
            tensors = load_file(path)
            digests, ends = tensors["digests"].numpy(), tensors["ends"].tolist()
            self._places, self._features = tensors["places"], tensors["features"]
            tokens, lengths = tensors["tokens"], tensors["lengths"].tolist()
        except (OSError, SafetensorError, KeyError) as error:
            raise TrainingError(f"{path} is no file of training.features: {error}") from error
        self._path = path
        starts = [0, *ends[:-1]]
        self._rows = {
            bytes(digest): slice(start, end)
            for digest, start, end in zip(digests, starts, ends, strict=True)
        }
        # Of what is learnt from alone, the tokens that the teacher read.
        self._learnt = list(
            zip(
                (part.tolist() for part in torch.split(tokens, lengths)),
                self._rows.values(),
                strict=False,
            )
        )

    @property
    def components(self) -> int:
        """K."""
        return self._features.shape[1]

    @property
    def most_tokens(self) -> int:
        """Of the longest text that is learnt from."""
        return max((len(text) for text, _ in self._learnt), default=0)

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return sha256_of(self._path)

    def of(self, window: Window) -> tuple[Tensor, Tensor]:
        """Where the teacher saw something, int64 (P,), tokens of the window; and what, (P, K).

        Raises:
            TrainingError: a window that the file does not know.
        """
        try:
            rows = self._rows[_digest(window)]
        except KeyError:
            raise TrainingError(
                f"{self._path} was made from other texts: make it anew with training.features, the "
                "same recipe and the same --data."
            ) from None
        return self._places[rows].long(), self._features[rows].float()

    def batches(self, num_tokens: int, seed: int) -> Iterator[Lesson]:
        """Texts that are learnt from, so many tokens or a few more at once, without end.

        Args:
            num_tokens: of a batch.
            seed: of the order, another one each time through.
        """
        rng = np.random.default_rng(seed)
        drawn: list[int] = []
        tokens = 0
        while True:
            for number in rng.permutation(len(self._learnt)).tolist():
                drawn.append(number)
                tokens += len(self._learnt[number][0])
                if tokens >= num_tokens:
                    yield self._lesson(drawn)
                    drawn, tokens = [], 0

    def _lesson(self, numbers: Sequence[int]) -> Lesson:
        texts, rows = zip(*(self._learnt[number] for number in numbers), strict=True)
        starts = np.cumsum([0, *map(len, texts)]).tolist()
        places = [
            start + self._places[own].long() for start, own in zip(starts, rows, strict=False)
        ]
        features = torch.cat([self._features[own].float() for own in rows])
        return Lesson(pack(texts), torch.cat(places), features)


def save_lessons(
    path: Path, windows: Sequence[Window], seen: Sequence[Seen], num_learnt: int
) -> None:
    """Writes places and features of these windows as safetensors, and tokens of the first ones.

    Args:
        path: the file.
        windows: as ``every_window`` gives them.
        seen: for each of them.
        num_learnt: how many of them are to learn from.

    Raises:
        CheckpointError: the file cannot be written.
    """
    read = [window[:-1][:MOST_TOKENS] for window in windows[:num_learnt]]
    digests = np.frombuffer(b"".join(map(_digest, windows)), np.uint8).reshape(-1, 32)
    places, features = zip(*seen, strict=True)
    tensors = {
        "digests": torch.from_numpy(digests.copy()),
        "ends": torch.tensor([len(own) for own in places]).cumsum(0),
        "places": torch.from_numpy(np.concatenate(places)),
        "features": torch.from_numpy(np.concatenate(features)),
        "tokens": torch.tensor([token for tokens in read for token in tokens], dtype=torch.int32),
        "lengths": torch.tensor([len(tokens) for tokens in read]),
    }
    with new_file(path) as partial:
        write_tensors(tensors, partial)


def _digest(window: Window) -> bytes:
    return hashlib.sha256(np.array(window, np.int32).tobytes()).digest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/configs/pretrain/")
    add_sources(parser)
    parser.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    options = parser.parse_args(arguments)
    return exit_code("training.features", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_new(options.out)
    config = read_recipe(options.recipe, PretrainConfig)
    sources = [Source.parse(text) for text in options.data]
    texts = read_sources(sources, config.split_seed, config.n_positions)
    windows = every_window(texts)
    with tqdm(total=len(windows), unit=" windows") as bar:
        seen = look(windows, config.seed, bar.update)
    save_lessons(options.out, windows, seen, len(set(map(tuple, texts.train))))
    places = sum(len(own) for own, _ in seen)
    print(f"{len(windows)} windows, {places} tokens, saved to {options.out}")
    return 0


def every_window(texts: TextSplit) -> list[Window]:
    """What is learnt from, then what is held back, each once."""
    windows = map(tuple, (*texts.train, *texts.every_held_back))
    return [list(window) for window in dict.fromkeys(windows)]


def look(
    windows: Sequence[Window], seed: int, progress: Callable[[], object] = lambda: None
) -> list[Seen]:
    """The reduced states of the teacher in each window, in order.

    Args:
        windows: what it reads.
        seed: of the drawn windows that say what the principal components are.
        progress: told of each window that is done.
    """
    order = np.random.default_rng(seed).permutation(len(windows)).tolist()
    sampled, others = order[:_SAMPLED_WINDOWS], order[_SAMPLED_WINDOWS:]
    seen: dict[int, Seen] = {}
    raw = dict(_states_of(windows, sampled, progress))
    every = np.concatenate([own.states[::_SAMPLED_EVERY] for own in raw.values()])
    reduce = Reduction.of(every.astype(np.float32), _COMPONENTS)
    for number, own in chain(raw.items(), _states_of(windows, others, progress)):
        seen[number] = own.places, reduce(own.states)
    return [seen[number] for number in range(len(windows))]


def _states_of(
    windows: Sequence[Window], numbers: Sequence[int], progress: Callable[[], object]
) -> Iterator[tuple[int, TokenStates]]:
    for place, own in token_states([windows[number] for number in numbers]):
        progress()
        yield numbers[place], own


if __name__ == "__main__":
    sys.exit(main())
