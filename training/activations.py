"""The frozen part of a network, computed once: what enters the first trained block.

Frozen blocks give the same activations in every epoch, so five epochs need them once.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model import bf16
from model.gpt2 import Block, GPT2ForSequenceClassification
from model.packing import PackedBatch, pack, within_budget

# Tokens computed at once: enough for matrix products to run at full speed.
_TOKENS_AT_ONCE = 4096
# Batches that go through a block before the next block is made ready.
_BATCHES_A_BLOCK = 16


@dataclass(frozen=True)
class ActivationCache:
    """The residual stream that enters block ``num_blocks``, for every token of every text.

    Attributes:
        num_blocks: blocks that it has passed.
        rows: float32 (T, C), the texts end to end.
        ends: where each text ends in it.
    """

    num_blocks: int
    rows: Tensor
    ends: Sequence[int]

    def gather(self, indices: Sequence[int]) -> Tensor:
        """Activations (T, C) of the texts with these numbers, end to end."""
        starts = (self.ends[i - 1] if i else 0 for i in indices)
        return torch.cat(
            [self.rows[s : self.ends[i]] for s, i in zip(starts, indices, strict=True)]
        )


def cache_activations(
    model: GPT2ForSequenceClassification,
    parts: Mapping[str, Sequence[Sequence[int]]],
    num_blocks: int,
    device: torch.device,
    *,
    causal: bool,
    max_memory_bytes: int,
) -> dict[str, ActivationCache]:
    """Computes all texts of all parts; the blocks below ``num_blocks`` must stay as they are.

    At autocast's precision. Held in memory up to ``max_memory_bytes``, beyond that in an unnamed
    file on disk.

    Args:
        model: on ``device``.
        parts: token ids of each text of each part.
        num_blocks: how many of the lowest blocks to pass.
        device: where to compute.
        causal: whether a token sees only what stands before it.
        max_memory_bytes: of all parts together.
    """
    texts = [text for part in parts.values() for text in part]
    rows = _allocate(sum(map(len, texts)), model.config.n_embd, max_memory_bytes)
    first = 0
    with tqdm(total=len(texts), unit=" texts", desc="frozen part, once") as bar:
        for batches in _groups(texts, causal, device):
            for batch, states in zip(batches, _pass(model, batches, num_blocks), strict=True):
                rows[first : first + len(states)] = states.float().cpu()
                first += len(states)
                bar.update(batch.num_texts)
    sizes = [sum(map(len, part)) for part in parts.values()]
    return {
        name: ActivationCache(num_blocks, own, np.cumsum([len(text) for text in part]).tolist())
        for (name, part), own in zip(parts.items(), torch.split(rows, sizes), strict=True)
    }


@torch.no_grad()
def _pass(
    model: GPT2ForSequenceClassification, batches: Sequence[PackedBatch], num_blocks: int
) -> list[Tensor]:
    """(T, C) of each batch after so many blocks; every block is made ready once for them all."""
    network = model.transformer
    states = [network.embed(batch) for batch in batches]
    for block in network.h[:num_blocks]:
        assert isinstance(block, Block)
        if torch.is_autocast_enabled("cpu") and bf16.is_supported():
            block = bf16.laid_out(block)
        states = [block(x, batch) for x, batch in zip(states, batches, strict=True)]
    return [x[: batch.num_tokens] for x, batch in zip(states, batches, strict=True)]


def _groups(
    texts: Sequence[Sequence[int]], causal: bool, device: torch.device
) -> Iterator[list[PackedBatch]]:
    """The texts in their order, packed, some batches together."""
    groups = within_budget(texts, len, _TOKENS_AT_ONCE)
    packed = (pack(group, causal=causal).to(device) for group in groups)
    while batches := list(islice(packed, _BATCHES_A_BLOCK)):
        yield batches


def _allocate(num_rows: int, width: int, max_memory_bytes: int) -> Tensor:
    if 4 * num_rows * width <= max_memory_bytes:
        return torch.empty(num_rows, width)
    # The file has no name any more, so it goes when the process goes, however that ends.
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, else a crash on the way
            os.posix_fallocate(file.fileno(), 0, 4 * num_rows * width)
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(num_rows, width)))
