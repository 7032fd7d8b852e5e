"""A second opinion on a text: what its words and its stretches of letters say, in one table.

A network reads what a text means, and forgets words that it met a few times; a linear model of
n-grams keeps each of them and errs on other texts. So the table's log odds are added to the
network's, and count more where the vocabulary cuts words into small pieces, as it does in other
languages than those that the network has read. The table counts words, pairs of neighbours and
stretches of bytes, each of them once a text, all in small letters, and is a function of the token
ids alone. It is read on the CPU, while a CUDA device computes what the network says.
Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016; Weinberger et al.,
"Feature Hashing for Large Scale Multitask Learning", 2009.

N bytes of a text, with a blank at both ends.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.tokenizer import VOCAB_SIZE, token_bytes

KINDS = 2
"""Words with their pairs, and stretches of bytes: each kind's weights are added up on its own."""

_LONGEST = 5  # bytes of a stretch; the shortest has 2
# So many n-grams more are counted as saying nothing: a word or two are no evidence.
_FEW = 20
_MANY = 4000  # a mail of some 500 tokens
# Of English; other languages have 1.2 to 2.7. So many tokens of it more are counted.
_BYTES_A_TOKEN = 3.5
_FEW_TOKENS = 8
# Odd numbers without a pattern.
_MULTIPLIERS = 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D

Integers = NDArray[np.int64]


class NgramTable:
    """One weight a hashed n-gram of each kind.

    Attributes:
        weight: float32 (KINDS, buckets) on the CPU, what an n-gram adds to the log odds of spam,
            before ``length_scale``. The number of buckets is a power of two.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Log odds of spam, float32 (B,) on the CPU."""
        return _of_each(self._log_odds, texts)

    def find(self, text: Sequence[int]) -> list[Integers]:
        """The buckets of a text's different n-grams, of each kind, in no order."""
        spelling = _spelling()
        data = b"".join((b" ", *[spelling[token_id] for token_id in text], b" "))
        letters = np.frombuffer(data, np.uint8).astype(np.int64)
        num_buckets = self.weight.shape[1]
        found = []
        for hashes in (_words(letters), _stretches(letters)):
            buckets = _mixed(hashes) & (num_buckets - 1)
            # Of those in one bucket one is written last. Three times as fast as sorting them.
            places = np.arange(len(buckets), dtype=np.int32)
            last = np.empty(num_buckets, np.int32)
            last[buckets] = places
            found.append(buckets[last[buckets] == places])
        return found

    def _log_odds(self, text: Sequence[int]) -> float:
        found = self.find(text)
        log_odds = sum(
            length_scale(len(buckets)) * float(row[buckets].sum())
            for row, buckets in zip(self.weight.numpy(), found, strict=True)
        )
        # Good words cost nothing: of more than so many n-grams, ham is worth no more.
        size = sum(map(len, found))
        return log_odds * math.sqrt(_MANY / size) if log_odds < 0 and size > _MANY else log_odds


def add_ngrams(logits: Tensor, table: NgramTable | None, texts: Sequence[Sequence[int]]) -> Tensor:
    """A network's logits (B, 2) in float32, the table's log odds added to those of spam.

    Args:
        logits: of each text, or of a window of it.
        table: None leaves them as they are.
        texts: the tokens of each text, all that is read of it.
    """
    logits = logits.float()
    if table is None:
        return logits
    known = _of_each(network_share, texts)
    both = torch.stack((known, table.read(texts) / known)).to(logits.device)
    return logits * both[0, :, None] + F.pad(both[1, :, None], (1, 0))


def network_share(text: Sequence[int]) -> float:
    """What the network's log odds are multiplied by, and the table's divided by: up to 1.

    1 where the tokens are as long as in English, 0.3 in a long text of which each byte is one.
    """
    num_bytes = int(_lengths()[list(text)].sum())
    return min(1.0, (num_bytes / _BYTES_A_TOKEN + _FEW_TOKENS) / (len(text) + _FEW_TOKENS))


def _of_each(tell: Callable[[Sequence[int]], float], texts: Sequence[Sequence[int]]) -> Tensor:
    """What is told of each text, float32 (B,) on the CPU; one that is there twice is read once."""
    once = {id(text): text for text in texts}
    found = {key: tell(text) for key, text in once.items()}
    return torch.tensor([found[id(text)] for text in texts])


def length_scale(size: int) -> float:
    """What the sum of weights is multiplied by, given how many n-grams of one kind a text has."""
    return 1 / math.sqrt(size + _FEW)


def _words(letters: Integers) -> Integers:
    """Hashes of words and of pairs of neighbours, from bytes (N,)."""
    inside = np.flatnonzero(_is_word()[letters])
    begins = np.append(True, inside[1:] - inside[:-1] > 1)[: len(inside)]
    firsts = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    spelled = _mixed(letters[inside] + 256 * (inside - inside[firsts][word]))
    words = np.add.reduceat(spelled, firsts)
    return np.concatenate((words, _mixed(words[:-1]) + words[1:]))


def _stretches(letters: Integers) -> Integers:
    """Hashes of a few bytes in a row, from bytes (N,)."""
    found = []
    hashes = letters + 1
    for size in range(2, _LONGEST + 1):
        hashes = hashes[:-1] * _MULTIPLIERS[0] + letters[size - 1 :]
        found.append(hashes)
    return np.concatenate(found)


def _mixed(hashes: Integers) -> Integers:
    """Every bit of the result depends on all bits; products overflow."""
    for multiplier in _MULTIPLIERS:
        hashes = hashes * multiplier
        hashes = hashes ^ (hashes >> 32)
    return hashes


@functools.cache
def _spelling() -> list[bytes]:
    """Each token's bytes, small and with one kind of blank; the end of text, which stands for an
    empty one, has none."""
    small = b"".join(b" " if bytes([n]).isspace() else bytes([n]).lower() for n in range(256))
    return [*(token_bytes(token_id).translate(small) for token_id in range(VOCAB_SIZE - 1)), b""]


@functools.cache
def _lengths() -> Integers:
    """How many bytes each token has; the end of text, which stands for an empty one, its name's."""
    return np.array([len(token_bytes(token_id)) for token_id in range(VOCAB_SIZE)])


@functools.cache
def _is_word() -> NDArray[np.bool_]:
    """Which bytes make words: ASCII letters and digits, and all of other scripts."""
    return np.array([n >= 128 or bytes([n]).isalnum() for n in range(256)])
