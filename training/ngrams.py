"""Fits the table of n-grams that stands beside a network: a logistic regression on what it counts.

On its own texts the network is surer than on any others, so the two are not fitted together: the
table would find nothing left to learn.

Good words beside a spam would outweigh it, as they do in any linear model. So the real texts are
read among good words of their kind, too, with so little weight that the rest hardly moves: of many
weights that tell ham from spam equally well, some are moved less by good words.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from model.ngrams import KINDS, NgramTable, length_scale
from model.tokenizer import encode
from training.config import TrainingError
from training.corpora import Example

_BUCKETS = 1 << 18  # of each kind
# What is beyond so many tokens of a text is not read.
_MAX_TOKENS = 8192
_INVERSE_PENALTY = 10.0
# liblinear counts with 32 bits.
_MOST_ENTRIES = (1 << 31) - 1
# How often each real text is read among good words, how much one such reading weighs, and of how
# many words the shortest and the longest are.
_COPIES = 2
_WEIGHT_OF_COPY = 0.05
_FEWEST, _MOST = 8, 2000


def fit_ngrams(examples: Sequence[Example], factor: float, seed: int) -> NgramTable:
    """A table whose log odds are ``factor`` times a logistic regression's; 85 s for 49,000.

    To be fitted before the network learns: where this fails, no training is lost.

    Args:
        examples: the training part, ham and spam among them.
        factor: share of its log odds in the verdict.
        seed: for what good words stand beside a text.

    Raises:
        TrainingError: too many texts.
    """
    print(f"fitting a table of n-grams to {len(examples):,} texts", flush=True)
    copies = among_good_words([e for e in examples if not e.training_only] * _COPIES, seed)
    texts = [*examples, *copies]
    table = NgramTable(torch.zeros(KINDS, _BUCKETS))
    regression = LogisticRegression(C=_INVERSE_PENALTY, solver="liblinear", fit_intercept=False)
    regression.fit(
        _counted(table, texts),
        [text.label for text in texts],
        [1.0] * len(examples) + [_WEIGHT_OF_COPY] * len(copies),
    )
    weight = torch.from_numpy(factor * regression.coef_).float()
    return NgramTable(weight.view(KINDS, _BUCKETS))


def among_good_words(examples: Sequence[Example], seed: int) -> list[Example]:
    """Each text beside words of ham of its own source, in front or behind; its label stays.

    Args:
        examples: texts of a source that has no ham are left out.
        seed: draws which words, and how many: as often 10 to 20 as 1,000 to 2,000.
    """
    rng = np.random.default_rng(seed)
    ham: dict[str, list[str]] = {}
    for example in examples:
        if example.label == 0:
            ham.setdefault(example.source, []).append(example.text)
    words = {
        source: " ".join(texts[n] for n in rng.permutation(len(texts))).split()
        for source, texts in ham.items()
    }
    copies = []
    for example in examples:
        if not words.get(example.source):
            continue
        own = words[example.source]
        size = round(math.exp(rng.uniform(math.log(_FEWEST), math.log(_MOST))))
        start = int(rng.integers(max(1, len(own) - size)))
        parts = [" ".join(own[start : start + size]), example.text]
        copies.append(
            replace(example, text="\n".join(parts if rng.random() < 0.5 else parts[::-1]))
        )
    return copies


def _counted(table: NgramTable, examples: Sequence[Example]) -> csr_matrix:
    """(texts, KINDS * buckets): each n-gram's part in what the table says of a text."""
    ends, columns, values = [0], [], []
    for example in examples:
        found = table.find(encode(example.text, _MAX_TOKENS)[0])
        ends.append(ends[-1] + sum(map(len, found)))
        if ends[-1] > _MOST_ENTRIES:
            raise TrainingError(
                f"{len(examples):,} texts hold more n-grams than a table can be fitted to: take "
                "fewer texts, or a recipe with ngrams = 0."
            )
        for kind, buckets in enumerate(found):
            columns.append((kind * _BUCKETS + buckets).astype(np.int32))
            values.append(np.full(len(buckets), length_scale(len(buckets)), np.float32))
    parts = (np.concatenate(values), np.concatenate(columns), ends)
    return csr_matrix(parts, shape=(len(examples), KINDS * _BUCKETS))
