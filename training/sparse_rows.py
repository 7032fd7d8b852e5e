"""Gradients of a large embedding of which a step reads few rows, on a CPU.

GPT-2's 50,257 rows, of which a batch reads some hundreds: as autograd gives their gradient it is
filled with zeros for each reading anew, and several processes would tell each other the zeros, too.
"""

from typing import Self

import torch
from torch import nn


class RowGradient:
    """Keeps one dense gradient of the embedding and puts into it only the rows that were read."""

    def __init__(self, embedding: nn.Embedding) -> None:
        """From here on autograd gives this embedding a sparse gradient; other readings of its
        weight have to as well.
        """
        embedding.sparse = True
        self._weight = embedding.weight
        self._dense = torch.zeros_like(embedding.weight)
        self._rows = torch.empty(0, dtype=torch.int64)

    @classmethod
    def of(cls, module: nn.Module) -> Self | None:
        """Of an embedding that learns on a CPU; None of any other module."""
        if not isinstance(module, nn.Embedding) or not module.weight.requires_grad:
            return None
        return None if module.weight.is_cuda else cls(module)

    @torch.no_grad()
    def make_dense(self) -> None:
        """Puts a dense gradient, which optimizers take, in place of the sparse one."""
        if self._weight.grad is None or not self._weight.grad.is_sparse:
            return
        read = self._weight.grad.coalesce()
        self._dense.index_fill_(0, self._rows, 0.0)
        self._rows = read.indices()[0]
        self._dense.index_copy_(0, self._rows, read.values())
        self._weight.grad = self._dense
