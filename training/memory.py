"""Memory of a training: freed blocks are reused, only embeddings in use learn, the peak is told."""

import contextlib
import ctypes
import functools
import gc
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.gpt2 import GPT2ForSequenceClassification

# Of glibc's malloc.h and Linux's mman.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MADV_HUGEPAGE = 14
_BLOCK = 1 << 30
_LARGE_PAGE = 1 << 21


@functools.cache
def keep_freed_memory(*, large_pages: bool) -> None:
    """Lets this process use freed memory again, however large the block, from now on.

    glibc returns large blocks to the system at once, and every step's gradients would be faulted in
    anew: a tenth of a step of the 124M model, a third of a small one's. Elsewhere, does nothing.

    Args:
        large_pages: have the heap come in pages of 2 MB where the system has them. Each takes
            milliseconds to find; a training that goes through all weights at every step is faster
            by a twentieth.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    if large_pages:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        _advise_large_pages(libc, memory // 2)


def _advise_large_pages(libc: ctypes.CDLL, size: int) -> None:
    """Has the next ``size`` bytes of the heap come in large pages.

    They are taken and freed, and so stay with the heap, without having been touched.
    """
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    length = _BLOCK - _LARGE_PAGE  # one of _BLOCK would not come from the heap
    taken = [libc.malloc(length) for _ in range(size // _BLOCK)]
    for address in filter(None, taken):
        begin = -(-address // _LARGE_PAGE) * _LARGE_PAGE
        libc.madvise(begin, address + length - begin, _MADV_HUGEPAGE)
    for address in taken:
        libc.free(address)


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

    def __init__(self, embeddings: nn.Embedding, tokens: Iterable[int]) -> None:
        """Takes the embeddings over; ``tokens`` are all that ``forward`` will ever be given."""
        super().__init__()
        weight = embeddings.weight.detach()
        used = torch.tensor(sorted(set(tokens)), device=weight.device)
        row_of_token = torch.full((len(weight),), -1, device=weight.device)
        row_of_token[used] = torch.arange(len(used), device=weight.device)
        self.weight = nn.Parameter(torch.cat([weight[used], torch.ones_like(weight[:1])]))
        self.register_buffer("row_of_token", row_of_token, persistent=False)
        self.start = weight  # (V, C), no buffer: a running average copies those at every step

    def forward(self, token_ids: Tensor) -> Tensor:
        """Maps (T,) to (T, C)."""
        return F.embedding(self.row_of_token[token_ids], self.weight)

    def whole(self) -> nn.Embedding:
        """All rows: those in use as learnt, the others as the optimizer would have left them."""
        learnt = self.weight.detach()
        weight = learnt[-1] * self.start.to(learnt.device)
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


def reset_peak_memory(device: torch.device) -> None:
    """Lets ``peak_memory_bytes`` begin anew; on a CPU without Linux it cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (references := Path("/proc/self/clear_refs")).exists():
        references.write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """The most that was allocated on a GPU, or resident of this process on a CPU.

    Of a started process ``getrusage`` tells at least what its parent had; Linux' own counter does
    not.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
