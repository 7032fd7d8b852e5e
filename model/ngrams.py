"""A second opinion on a text: what its words and its stretches of letters say, in one table.

A network reads what a text means, and forgets words that it met a few times; a linear model of
n-grams keeps each of them and errs on other texts. So the table's log odds are added to the
network's. It counts words, pairs of neighbours and stretches of bytes, each of them once a text,
all in small letters, and is a function of the token ids alone.
Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016; Weinberger et al.,
"Feature Hashing for Large Scale Multitask Learning", 2009.

T tokens in the batch, B texts, N bytes of them with a blank at both ends of each text.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.packing import PackedBatch, pack
from model.tokenizer import VOCAB_SIZE, token_bytes

KINDS = 2
"""Words with their pairs, and stretches of bytes: each kind's weights are added up on its own."""

_LONGEST = 5  # bytes of a stretch; the shortest has 2
_BLANK = 220  # the token
# So many n-grams more are counted as saying nothing: a word or two are no evidence.
_FEW = 20
_MANY = 2000  # a mail of some 250 tokens
# Odd numbers without a pattern.
_MULTIPLIERS = 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D


class NgramTable(nn.Module):
    """One weight a hashed n-gram of each kind.

    Args:
        weight: (KINDS, buckets), what an n-gram adds to the log odds of spam, before ``shares``.
    """

    _letters: Tensor
    _starts: Tensor
    _is_word: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        letters, starts, is_word = (torch.from_numpy(array) for array in _spelling())
        self.register_buffer("_letters", letters, persistent=False)
        self.register_buffer("_starts", starts, persistent=False)
        self.register_buffer("_is_word", is_word, persistent=False)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Log odds of spam (B,) in float32."""
        sets, buckets = self.find(batch)
        kinds = sets % KINDS
        found = self.weight[kinds, buckets].float()
        num_sets = KINDS * batch.num_texts
        sums = torch.zeros(num_sets, device=found.device).index_add_(0, sets, found)
        sizes = torch.bincount(sets, minlength=num_sets)
        log_odds = (sums * shares(sizes)).view(-1, KINDS).sum(1)
        # Good words cost nothing: of more than so many n-grams, ham is worth no more.
        bound = (_MANY / sizes.view(-1, KINDS).sum(1).clamp(min=_MANY)).sqrt()
        return torch.where(log_odds < 0, log_odds * bound, log_odds)

    def read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The same from token lists; a list that is there several times is read once."""
        once = {id(text): text for text in texts}
        places = {key: place for place, key in enumerate(once)}
        device = self.weight.device
        found: Tensor = self(pack(list(once.values())).to(device))
        return found[torch.tensor([places[id(text)] for text in texts], device=device)]

    def find(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """The different n-grams of each text.

        Returns:
            For each, int64: the number of its set, KINDS times the text's number in the batch plus
            the kind; and its bucket.
        """
        letters, texts = self._spell(batch)
        num_buckets = self.weight.shape[1]
        keys = [
            (KINDS * of_text + kind) * num_buckets + _mixed(hashes) % num_buckets
            for kind, (hashes, of_text) in enumerate(
                (self._words(letters, texts), _stretches(letters, texts))
            )
        ]
        unique = torch.unique(torch.cat(keys))
        return unique // num_buckets, unique % num_buckets

    def _spell(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Bytes in small letters (N,), and the number of the text of each (N,)."""
        of_token = (batch.position_ids == 0).cumsum(0) - 1
        places = torch.arange(batch.num_tokens, device=of_token.device) + 2 * of_token + 1
        ids = batch.input_ids.new_full((batch.num_tokens + 2 * batch.num_texts,), _BLANK)
        ids[places] = batch.input_ids
        texts = of_token.new_zeros(len(ids))
        texts[places[batch.position_ids == 0] - 1] = 1
        starts, ends = self._starts[ids], self._starts[ids + 1]
        sizes = ends - starts
        shifts = starts - (sizes.cumsum(0) - sizes)
        where = torch.repeat_interleave(shifts, sizes)
        where += torch.arange(len(where), device=where.device)
        return self._letters[where].long(), torch.repeat_interleave(texts.cumsum(0) - 1, sizes)

    def _words(self, letters: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Hashes of words and of pairs of neighbours, each with the number of its text."""
        inside = self._is_word[letters]
        begins = inside.clone()
        begins[1:] &= ~inside[:-1]
        firsts = begins.nonzero().squeeze(1)
        word = (begins.cumsum(0) - 1)[inside]
        place = inside.nonzero().squeeze(1) - firsts[word]
        spelled = _mixed(letters[inside] + 256 * place)
        hashes = torch.zeros_like(firsts).index_add_(0, word, spelled)
        of_text = texts[firsts]
        neighbours = of_text[1:] == of_text[:-1]
        pairs = _mixed(hashes[:-1]) + hashes[1:]
        return (
            torch.cat([hashes, pairs[neighbours]]),
            torch.cat([of_text, of_text[1:][neighbours]]),
        )


def add_ngrams(logits: Tensor, table: NgramTable | None, texts: Sequence[Sequence[int]]) -> Tensor:
    """A network's logits (B, 2) in float32, the table's log odds added to those of spam.

    Args:
        logits: of each text, or of a window of it.
        table: None adds nothing.
        texts: the tokens of each text, all that is read of it.
    """
    logits = logits.float()
    return logits if table is None else logits + F.pad(table.read(texts)[:, None], (1, 0))


def shares(sizes: Tensor) -> Tensor:
    """What the sum of a set's weights is multiplied by, given how many n-grams are in it."""
    return (sizes + _FEW).rsqrt()


def _stretches(letters: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Hashes of a few bytes in a row, each with the number of its text."""
    found, of_text, within = [], [], []
    hashes = letters + 1
    for size in range(2, _LONGEST + 1):
        hashes = hashes[:-1] * _MULTIPLIERS[0] + letters[size - 1 :]
        found.append(hashes)
        of_text.append(texts[size - 1 :])
        within.append(of_text[-1] == texts[: len(hashes)])
    inside = torch.cat(within)
    return torch.cat(found)[inside], torch.cat(of_text)[inside]


def _mixed(hashes: Tensor) -> Tensor:
    """Every bit of the result depends on all bits (int64, overflowing)."""
    for multiplier in _MULTIPLIERS:
        hashes = hashes * multiplier
        hashes = hashes ^ (hashes >> 32)
    return hashes


@functools.cache
def _spelling() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """All tokens' bytes in a row, small and with one kind of blank; where each begins; and which
    bytes make words: ASCII letters and digits, and all of other scripts."""
    tokens = [token_bytes(token_id) for token_id in range(VOCAB_SIZE - 1)]
    tokens.append(b"")  # the end of text, which stands for an empty one
    small = [b" " if bytes([n]).isspace() else bytes([n]).lower() for n in range(256)]
    letters = np.frombuffer(b"".join(tokens).translate(b"".join(small)), np.uint8).copy()
    starts = np.cumsum([0, *map(len, tokens)])
    is_word = np.array([n >= 128 or bytes([n]).isalnum() for n in range(256)])
    return letters, starts, is_word
