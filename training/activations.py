"""The frozen part of a network, computed once: what enters the first trained block.

Frozen blocks give the same activations in every epoch, so five epochs need them once.
"""

import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.gpt2 import GPT2ForSequenceClassification
from model.packing import pack

# Tokens computed at once: enough for matrix products to run at full speed.
_TOKENS_AT_ONCE = 4096


class ActivationCache:
    """The residual stream that enters block ``num_blocks``, for every token of every text.

    Held in memory up to ``max_memory_bytes``, beyond that in an unnamed file on disk.
    """

    def __init__(
        self,
        model: GPT2ForSequenceClassification,
        texts: Sequence[Sequence[int]],
        num_blocks: int,
        device: torch.device,
        *,
        causal: bool,
        max_memory_bytes: int,
    ) -> None:
        """Computes all texts; the blocks below ``num_blocks`` must stay as they are."""
        self.num_blocks = num_blocks
        self._ends = np.cumsum([len(text) for text in texts]).tolist()
        self._rows = _allocate(self._ends[-1], model.config.n_embd, max_memory_bytes)
        self._compute(model, texts, device, causal)

    def gather(self, indices: Sequence[int]) -> Tensor:
        """Activations (T, C) of the texts with these numbers, end to end."""
        return torch.cat([self._rows[self._start(i) : self._ends[i]] for i in indices])

    def _start(self, index: int) -> int:
        start: int = self._ends[index - 1] if index else 0
        return start

    @torch.no_grad()
    def _compute(
        self,
        model: GPT2ForSequenceClassification,
        texts: Sequence[Sequence[int]],
        device: torch.device,
        causal: bool,
    ) -> None:
        first = 0
        with tqdm(total=len(texts), unit=" texts", desc="frozen part, once") as bar:
            while first < len(texts):
                last = first + 1
                while (
                    last < len(texts) and self._ends[last] - self._start(first) <= _TOKENS_AT_ONCE
                ):
                    last += 1
                batch = pack(texts[first:last], causal=causal).to(device)
                hidden = model.transformer.lower(batch, self.num_blocks)
                self._rows[self._start(first) : self._ends[last - 1]] = hidden.float().cpu()
                bar.update(last - first)
                first = last


def _allocate(num_rows: int, width: int, max_memory_bytes: int) -> Tensor:
    if 4 * num_rows * width <= max_memory_bytes:
        return torch.empty(num_rows, width)
    # The file has no name any more, so it goes when the process goes, however that ends.
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(num_rows, width)))
