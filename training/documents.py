"""Texts without labels for pretraining: sources to documents, documents to windows of tokens."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.packing import within_budget
from model.tokenizer import ENDOFTEXT, VOCAB_SIZE, encode
from training.config import CorpusError, TrainConfig
from training.corpora import CORPORA, Source
from training.data import cluster_split
from training.text_file import read_text

# Of plain text, which has no documents to hold back: its end.
_HELD_BACK = 0.1
# The tokenizer is given this much at once, since it cannot take endless runs of one character.
_PIECE_CHARACTERS = 100_000

Window = list[int]
"""n + 1 tokens: the first n are read, the last n are to be guessed."""


@dataclass(frozen=True)
class TextSplit:
    """Windows to learn from, and by source those that tell how well it went."""

    train: list[Window]
    held_back: dict[str, list[Window]]

    @property
    def every_held_back(self) -> list[Window]:
        """Those of all sources."""
        return list(itertools.chain(*self.held_back.values()))

    @cached_property
    def sha256(self) -> str:
        """Of all windows in their order, which the order of learning hangs on, too."""
        digest = hashlib.sha256()
        for window in itertools.chain(self.train, *self.held_back.values()):
            digest.update(np.array([*window, -1], np.int32).tobytes())
        return digest.hexdigest()

    def counts(self) -> NDArray[np.int64]:
        """(V,): how often each token is to be guessed in training."""
        tokens = [token for window in self.train for token in window[1:]]
        return np.bincount(tokens, minlength=VOCAB_SIZE)


def read_sources(sources: Sequence[Source], split_seed: int, n_positions: int) -> TextSplit:
    """Reads, splits and tokenizes all sources.

    Labelled corpora are split as ``finetune`` splits them: learnt from is its training part, held
    back is its validation part, and its test part is not read, so that it stays a test for a
    classifier that starts from this base.

    Raises:
        CorpusError: a source that is missing, unreadable or too small to hold anything back.
    """
    train: list[Window] = []
    held_back: dict[str, list[Window]] = {}
    for source in sources:
        parts = _read_parts(source, split_seed)
        learnt, kept = (
            [window for text in part for window in windows(text, n_positions)] for part in parts
        )
        if not learnt or not kept:
            raise CorpusError(f"{source.path} is too small to learn from and to hold some back.")
        train += learnt
        held_back.setdefault(f"{source.kind} {source.path.name}", []).extend(kept)
    return TextSplit(train, held_back)


def _read_parts(source: Source, split_seed: int) -> tuple[list[str], list[str]]:
    if source.kind == "text":
        texts = [read_text(path) for path in _text_files(source.path)]
        ends = [len(text) - int(_HELD_BACK * len(text)) for text in texts]
        learnt = [text[:end] for text, end in zip(texts, ends, strict=True)]
        kept = [text[end:] for text, end in zip(texts, ends, strict=True)]
        return [text for text in learnt if text], [text for text in kept if text]
    examples = CORPORA[source.kind](source.path)
    if not examples:
        return [], []
    splits = cluster_split(examples, TrainConfig(split_seed=split_seed))
    return [e.text for e in splits.train], [e.text for e in splits.validation]


def _text_files(path: Path) -> list[Path]:
    return sorted(path.rglob("[!.]*.txt")) if path.is_dir() else [path]


def count_guesses(windows: Sequence[Window]) -> int:
    """How many tokens of these windows follow another, and so are to be guessed."""
    return sum(len(window) - 1 for window in windows)


def windows(text: str, n_positions: int) -> Iterator[Window]:
    """Cuts a document into windows of at most ``n_positions`` guesses, each token guessed once.

    ENDOFTEXT stands before the document and after it.
    """
    stream = [ENDOFTEXT]
    for start in range(0, len(text), _PIECE_CHARACTERS):
        piece = text[start : start + _PIECE_CHARACTERS]
        stream += encode(piece)[0]
    stream.append(ENDOFTEXT)
    for start in range(0, len(stream) - 1, n_positions):
        yield stream[start : start + n_positions + 1]


def batches(
    windows: Sequence[Window], batch_tokens: int, seed: int | None
) -> Iterator[list[Window]]:
    """Fills batches up to ``batch_tokens`` guesses.

    Args:
        windows: each of at most ``batch_tokens`` guesses.
        batch_tokens: the budget.
        seed: batches without end, each pass in an order of its own; None: one pass, in order.
    """
    ordered = _in_order(windows, seed)
    yield from within_budget(ordered, lambda window: len(window) - 1, batch_tokens)


def _in_order(windows: Sequence[Window], seed: int | None) -> Iterator[Window]:
    if seed is None:
        yield from windows
        return
    rng = np.random.default_rng(seed)
    while True:
        for number in rng.permutation(len(windows)).tolist():
            yield windows[number]
