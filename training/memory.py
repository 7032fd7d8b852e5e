"""Memory of a training on a CPU: glibc keeps it, and only the embeddings in use learn."""

import contextlib
import ctypes
import gc
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.gpt2 import GPT2ForSequenceClassification

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets this process use freed memory again, however large the block, from now on.

    glibc returns large blocks to the system at once, and every step's gradients would be faulted in
    anew: a tenth of a step of the 124M model, a third of a small one's. Elsewhere, does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


@contextlib.contextmanager
def settled_objects() -> Iterator[None]:
    """In this block no collection of garbage looks again at what is there when it begins."""
    gc.collect()  # of an earlier run, which would otherwise stay
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class EmbeddingsInUse(nn.Module):
    """Token embeddings of which only the rows that the texts can reach are held and learnt.

    The others would get no gradient but be zeroed, decayed and averaged at every step all the same:
    of the 124M model a third of the optimizer's work. One more row, of ones, takes what happens to
    every row without a gradient, so that ``whole`` can do it to all of them at once.
    """

    row_of_token: Tensor
    start: Tensor

    def __init__(self, embeddings: nn.Embedding, tokens: Iterable[int]) -> None:
        """Takes the embeddings over; ``tokens`` are all that ``forward`` will ever be given."""
        super().__init__()
        weight = embeddings.weight.detach()
        used = torch.tensor(sorted(set(tokens)), device=weight.device)
        row_of_token = torch.full((len(weight),), -1, device=weight.device)
        row_of_token[used] = torch.arange(len(used), device=weight.device)
        self.weight = nn.Parameter(torch.cat([weight[used], torch.ones_like(weight[:1])]))
        self.register_buffer("row_of_token", row_of_token, persistent=False)
        self.register_buffer("start", weight, persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Maps (T,) to (T, C)."""
        return F.embedding(self.row_of_token[token_ids], self.weight)

    def whole(self) -> nn.Embedding:
        """All rows: those in use as learnt, the others as the optimizer would have left them."""
        learnt = self.weight.detach()
        weight = learnt[-1] * self.start
        used = self.row_of_token >= 0
        weight[used] = learnt[self.row_of_token[used]]
        return nn.Embedding(len(weight), weight.shape[1], _weight=weight)


def learn_embeddings_in_use(model: GPT2ForSequenceClassification, tokens: Iterable[int]) -> None:
    """Puts EmbeddingsInUse into a model whose embeddings learn, in place."""
    if model.transformer.wte.weight.requires_grad:
        in_use = EmbeddingsInUse(model.transformer.wte, tokens)
        model.transformer.add_module("wte", in_use)


def make_embeddings_whole(model: GPT2ForSequenceClassification) -> None:
    """Takes EmbeddingsInUse out again, in place."""
    if isinstance(model.transformer.wte, EmbeddingsInUse):
        model.transformer.wte = model.transformer.wte.whole()
