"""Packed batches: texts end to end in one row of tokens, and the attention that keeps them apart.

Knows tensors, nothing of words or labels. T tokens in the batch, B sequences, H heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """B token sequences laid end to end, without padding.

    Two texts of 3 and 2 tokens give ``position_ids`` 0 1 2 0 1 and ``cu_seqlens`` 0 3 5.

    Attributes:
        input_ids: int64 (T,), the tokens.
        position_ids: int64 (T,), each token's place in its own text.
        cu_seqlens: int32 (B + 1,), where each text starts; the last entry is T.
        lengths: the B lengths as Python numbers, so that no kernel has to ask the device for them.
        causal: whether a token sees only what stands before it; False is an experiment of the book.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    causal: bool = True

    @property
    def max_seqlen(self) -> int:
        """Length of the longest text."""
        return max(self.lengths)

    @property
    def last_rows(self) -> Tensor:
        """int64 (B,): the row of each text's last token, where the verdict is read."""
        return self.cu_seqlens[1:].long() - 1

    def to(self, device: torch.device) -> "PackedBatch":
        """Returns the batch on ``device``; the copy does not block where the memory is pinned."""
        return PackedBatch(
            self.input_ids.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            self.cu_seqlens.to(device, non_blocking=True),
            self.lengths,
            self.causal,
        )


def pack(texts: Sequence[Sequence[int]], *, causal: bool = True) -> PackedBatch:
    """Packs token lists into one batch on the CPU.

    Raises:
        ValueError: if there is no text, or one has no token: there would be no last token to read.
    """
    lengths = tuple(len(text) for text in texts)
    if not lengths or min(lengths) == 0:
        raise ValueError("pack() takes at least one text, and each text at least one token.")
    cu_seqlens = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cu_seqlens[1:] = torch.tensor(lengths).cumsum(0)
    return PackedBatch(
        input_ids=torch.tensor([token for text in texts for token in text], dtype=torch.int64),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=cu_seqlens,
        lengths=lengths,
        causal=causal,
    )


def packed_attention(q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
    """Attention inside each text of a packed batch, never across.

    Args:
        q: (T, H, D) for every token, or (B, H, D): one query a text, its last token's, which sees
            the whole text.
        k: (T, H, D).
        v: (T, H, D).
        batch: the layout of k and v.

    Returns:
        The shape of ``q``.
    """
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
        return varlen_attention(q, k, v, batch)
    return reference_attention(q, k, v, batch)


def reference_attention(q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
    """The definition: scaled dot-product attention over one text after another, on any device."""
    last_only = _is_last_only(q, batch)
    kv_lengths = list(batch.lengths)
    q_lengths = [1] * len(kv_lengths) if last_only else kv_lengths
    parts = [
        F.scaled_dot_product_attention(
            # (L, H, D) -> (1, H, L, D)
            q_text.transpose(0, 1)[None],
            k_text.transpose(0, 1)[None],
            v_text.transpose(0, 1)[None],
            is_causal=batch.causal and not last_only,
        )[0].transpose(0, 1)
        for q_text, k_text, v_text in zip(
            torch.split(q, q_lengths),
            torch.split(k, kv_lengths),
            torch.split(v, kv_lengths),
            strict=True,
        )
    ]
    return torch.cat(parts)


def varlen_attention(q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
    """The same in one FlashAttention kernel: CUDA, bfloat16 or float16."""
    from torch.nn.attention.varlen import varlen_attn

    if _is_last_only(q, batch):
        cu_q = torch.arange(len(batch.lengths) + 1, dtype=torch.int32, device=q.device)
        max_q, window = 1, (-1, -1)
    else:
        cu_q, max_q = batch.cu_seqlens, batch.max_seqlen
        window = (-1, 0 if batch.causal else -1)
    out = varlen_attn(q, k, v, cu_q, batch.cu_seqlens, max_q, batch.max_seqlen, window_size=window)
    assert isinstance(out, Tensor)  # a tuple only where the log-sum-exp is asked for
    return out


def _is_last_only(q: Tensor, batch: PackedBatch) -> bool:
    # With one token in each text both readings are the same attention.
    return q.shape[0] == len(batch.lengths)
