"""Fits the table of n-grams that stands beside a network: a logistic regression on what it counts.

On its own texts the network is surer than on any others, so the two are not fitted together: the
table would find nothing left to learn.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from model.ngrams import KINDS, NgramTable, share
from model.tokenizer import encode
from training.corpora import Example

_BUCKETS = 1 << 18  # of each kind
# What is beyond so many tokens of a text is not read.
_MAX_TOKENS = 8192
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
    ends, columns, values = [0], [], []
    for example in examples:
        found = table.find(encode(example.text, _MAX_TOKENS)[0])
        ends.append(ends[-1] + sum(map(len, found)))
        for kind, buckets in enumerate(found):
            columns.append((kind * _BUCKETS + buckets).astype(np.int32))
            values.append(np.full(len(buckets), share(len(buckets)), np.float32))
    parts = (np.concatenate(values), np.concatenate(columns), ends)
    return csr_matrix(parts, shape=(len(examples), KINDS * _BUCKETS))
