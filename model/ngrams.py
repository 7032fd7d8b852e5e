"""A second opinion on a text: what its words and its stretches of letters say, in one table.

A network reads what a text means, and forgets words that it met a few times; a linear model of
n-grams keeps each of them and errs on other texts. So the table's log odds are added to the
network's. It counts words, pairs of neighbours and stretches of bytes, each of them once a text,
all in small letters, and is a function of the token ids alone. It is read on the CPU, while a CUDA
device computes what the network says.
Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016; Weinberger et al.,
"Feature Hashing for Large Scale Multitask Learning", 2009.

N bytes of a text, with a blank at both ends.
"""

import functools
from collections.abc import Iterator, Sequence

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
_TOKENS_AT_ONCE = 4096
_LONG = 256  # tokens
# Odd numbers without a pattern.
_MULTIPLIERS = 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D

Integers = NDArray[np.int64]


class NgramTable:
    """One weight a hashed n-gram of each kind.

    Attributes:
        weight: float32 (KINDS, buckets) on the CPU, what an n-gram adds to the log odds of spam,
            before ``share``. The number of buckets is a power of two.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Log odds of spam, float32 (B,) on the CPU; a list that is there twice is read once."""
        once = {id(text): text for text in texts}
        found = [part for some in _groups(list(once.values())) for part in self._log_odds(some)]
        by_key = dict(zip(once, found, strict=True))
        return torch.tensor([by_key[id(text)] for text in texts])

    def find(self, texts: Sequence[Sequence[int]]) -> list[tuple[Integers, Integers]]:
        """The different n-grams of some texts, by kind: each one's text, by number, and bucket."""
        spelling = _spelling()
        data = [b"".join((b" ", *[spelling[token] for token in text], b" ")) for text in texts]
        letters = np.frombuffer(b"".join(data), np.uint8).astype(np.int64)
        owners = np.repeat(np.arange(len(texts)), [len(own) for own in data])
        num_buckets = self.weight.shape[1]
        bits = num_buckets.bit_length() - 1
        is_long = len(texts) == 1 and len(texts[0]) > _LONG
        found = []
        for hashes, owner in (_words(letters, owners), _stretches(letters, owners)):
            keys = (owner << bits) | (_mixed(hashes) & (num_buckets - 1))
            once = _once_by_place(keys, num_buckets) if is_long else _once_in_order(keys)
            found.append((once >> bits, once & (num_buckets - 1)))
        return found

    def _log_odds(self, texts: Sequence[Sequence[int]]) -> list[float]:
        log_odds, size = np.zeros(len(texts)), np.zeros(len(texts))
        for weight, (owners, buckets) in zip(self.weight.numpy(), self.find(texts), strict=True):
            counts = np.bincount(owners, minlength=len(texts))
            sums = np.bincount(owners, weight[buckets], minlength=len(texts))
            log_odds += share(counts) * sums
            size += counts
        # Good words cost nothing: of more than so many n-grams, ham is worth no more.
        bound = np.where(log_odds < 0, np.sqrt(_MANY / np.maximum(size, _MANY)), 1.0)
        found: list[float] = (log_odds * bound).tolist()
        return found


def add_ngrams(logits: Tensor, table: NgramTable | None, texts: Sequence[Sequence[int]]) -> Tensor:
    """A network's logits (B, 2) in float32, the table's log odds added to those of spam.

    Args:
        logits: of each text, or of a window of it.
        table: None adds nothing.
        texts: the tokens of each text, all that is read of it.
    """
    logits = logits.float()
    if table is None:
        return logits
    return logits + F.pad(table.read(texts)[:, None], (1, 0)).to(logits.device)


def share(sizes: Integers) -> NDArray[np.float64]:
    """What a sum of weights is multiplied by, given how many n-grams of its kind a text has."""
    found: NDArray[np.float64] = 1 / np.sqrt(sizes + _FEW)
    return found


def _groups(texts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Short texts some at a time, since a call into numpy takes longer than one; others alone."""
    start, num_tokens = 0, 0
    for end, text in enumerate(texts):
        num_tokens += len(text)
        is_long = len(text) > _LONG or len(texts[start]) > _LONG
        if end > start and (is_long or num_tokens > _TOKENS_AT_ONCE):
            yield texts[start:end]
            start, num_tokens = end, len(text)
    yield texts[start:]


def _once_in_order(keys: Integers) -> Integers:
    """Each key once; of few the fastest way. Sorts in place."""
    keys.sort()
    once: Integers = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    return once


def _once_by_place(keys: Integers, num_places: int) -> Integers:
    """Each key once, of many: where several have one place, one of them is written last."""
    numbers = np.arange(len(keys), dtype=np.int32)
    last = np.empty(num_places, np.int32)
    last[keys] = numbers
    once: Integers = keys[last[keys] == numbers]
    return once


def _words(letters: Integers, owners: Integers) -> tuple[Integers, Integers]:
    """Hashes of words and of pairs of neighbours, and whose they are.

    Args:
        letters: bytes (N,) of texts one behind the other.
        owners: (N,), the text that each belongs to.
    """
    inside = np.flatnonzero(_is_word()[letters])
    begins = np.append(True, inside[1:] - inside[:-1] > 1)[: len(inside)]
    firsts = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    spelled = _mixed(letters[inside] + 256 * (inside - inside[firsts][word]))
    words = np.add.reduceat(spelled, firsts)
    owner = owners[inside[firsts]]
    beside = owner[1:] == owner[:-1]
    pairs = (_mixed(words[:-1]) + words[1:])[beside]
    return np.concatenate((words, pairs)), np.concatenate((owner, owner[1:][beside]))


def _stretches(letters: Integers, owners: Integers) -> tuple[Integers, Integers]:
    """Hashes of a few bytes in a row, and whose they are; arguments as of ``_words``."""
    found, owner = [], []
    hashes = letters + 1
    for size in range(2, _LONGEST + 1):
        hashes = hashes[:-1] * _MULTIPLIERS[0] + letters[size - 1 :]
        first = owners[: len(hashes)]
        inside = first == owners[size - 1 :] if owners[-1] else slice(None)  # of a single text all
        found.append(hashes[inside])
        owner.append(first[inside])
    return np.concatenate(found), np.concatenate(owner)


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
def _is_word() -> NDArray[np.bool_]:
    """Which bytes make words: ASCII letters and digits, and all of other scripts."""
    return np.array([n >= 128 or bytes([n]).isalnum() for n in range(256)])
