"""Fits the table of n-grams that stands beside a network: a logistic regression on what it counts.

On its own texts the network is surer than on any others, so the two are not fitted together: the
table would find nothing left to learn.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from model.ngrams import KINDS, NgramTable, shares
from model.packing import pack
from model.tokenizer import encode
from training.corpora import Example

_BUCKETS = 1 << 18  # of each kind
# What is beyond so many tokens of a text is not read.
_MAX_TOKENS = 8192
_TEXTS_AT_ONCE = 32
_INVERSE_PENALTY = 10.0


def fit_ngrams(examples: Sequence[Example], factor: float) -> NgramTable:
    """A table whose log odds are ``factor`` times a logistic regression's; a minute for 40,000.

    Args:
        examples: the training part, ham and spam among them.
        factor: share of its log odds in the verdict.
    """
    print(f"fitting a table of n-grams to {len(examples):,} texts", flush=True)
    table = NgramTable(torch.zeros(KINDS, _BUCKETS))
    regression = LogisticRegression(C=_INVERSE_PENALTY, solver="liblinear", fit_intercept=False)
    regression.fit(_counted(table, examples), [example.label for example in examples])
    weight = torch.from_numpy(factor * regression.coef_).float()
    return NgramTable(weight.view(KINDS, _BUCKETS))


def _counted(table: NgramTable, examples: Sequence[Example]) -> csr_matrix:
    """(texts, KINDS * buckets): each n-gram's part in what the table says of a text."""
    sizes, columns, values = [np.zeros(1, np.int64)], [], []
    for start in range(0, len(examples), _TEXTS_AT_ONCE):
        texts = examples[start : start + _TEXTS_AT_ONCE]
        sets, buckets = table.find(pack([encode(text.text, _MAX_TOKENS)[0] for text in texts]))
        of_set = torch.bincount(sets, minlength=KINDS * len(texts))
        sizes.append(of_set.view(-1, KINDS).sum(1).numpy())
        columns.append((sets % KINDS * _BUCKETS + buckets).int().numpy())
        values.append(shares(of_set[sets]).numpy())
    parts = (np.concatenate(values), np.concatenate(columns), np.cumsum(np.concatenate(sizes)))
    return csr_matrix(parts, shape=(len(examples), KINDS * _BUCKETS))
