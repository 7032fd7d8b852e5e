"""Packed batches: texts end to end in one row of tokens, and the attention that keeps them apart.

Knows tensors, nothing of words or labels. T tokens in the batch, B sequences, H heads, D head size.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_T = TypeVar("_T")

# Texts whose lengths differ by less share a rectangle: a call costs more than their padding.
_RECTANGLE_STEP = 16
_FEW_TEXTS = 8


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
    def num_tokens(self) -> int:
        """T."""
        return len(self.input_ids)

    @property
    def num_texts(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def num_last_rows(self) -> int:
        """S, B rounded up on a CPU, whatever the number format; a few texts stay as many."""
        few = self.num_texts < _FEW_TEXTS or self.input_ids.is_cuda
        return self.num_texts if few else round_up(self.num_texts)

    @property
    def last_rows(self) -> Tensor:
        """int64 (B,): the row of each text's last token, where the verdict is read."""
        return self.cu_seqlens[1:].long() - 1

    @cached_property
    def rectangles(self) -> "Rectangles":
        """The texts laid out for ``rectangular_attention``."""
        return Rectangles.of(self.lengths, self.input_ids.device)

    def to(self, device: torch.device) -> "PackedBatch":
        """Returns the batch on ``device``; the copy does not block where the memory is pinned."""
        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            position_ids=self.position_ids.to(device, non_blocking=True),
            cu_seqlens=self.cu_seqlens.to(device, non_blocking=True),
        )


def round_up(num_rows: int) -> int:
    """The next larger of a few numbers of rows, for matrix products: multiples of 8, and of many
    rows at most a sixteenth more.

    oneDNN makes a kernel for every number of rows that it meets, in more time than a short batch
    takes, and keeps it; packed batches hardly ever have the same twice. Where gradients are wanted
    the numbers are fewer, at most a quarter more: there are three products of each size, and a
    training is over after a few of each.
    """
    numbers_an_octave = 4 if torch.is_grad_enabled() else 16
    step = max(8, (1 << (num_rows.bit_length() - 1)) // numbers_an_octave)
    return -(-num_rows // step) * step


def pack(texts: Sequence[Sequence[int]], *, causal: bool = True) -> PackedBatch:
    """Packs token lists into one batch on the CPU.

    Raises:
        ValueError: if there is no text, or one has no token: there would be no last token to read.
    """
    lengths = tuple(len(text) for text in texts)
    if not lengths or min(lengths) == 0:
        raise ValueError("pack() takes at least one text, and each text at least one token.")
    ends = np.cumsum(lengths)
    starts = ends - lengths
    return PackedBatch(
        input_ids=torch.from_numpy(
            np.fromiter(chain.from_iterable(texts), np.int64, count=ends[-1])
        ),
        position_ids=torch.from_numpy(np.arange(ends[-1]) - np.repeat(starts, lengths)),
        cu_seqlens=torch.from_numpy(np.concatenate(([0], ends)).astype(np.int32)),
        lengths=lengths,
        causal=causal,
    )


def within_budget(
    items: Iterable[_T], num_tokens: Callable[[_T], int], budget: int
) -> Iterator[list[_T]]:
    """Cuts items, in their order, where the next would pass the budget.

    >>> list(within_budget(["a", "bcd", "e", "fg"], len, budget=3))
    [['a'], ['bcd'], ['e', 'fg']]

    Args:
        items: to be computed together; one that passes the budget by itself stands alone.
        num_tokens: what an item takes of the budget.
        budget: tokens of a group.
    """
    group: list[_T] = []
    taken = 0
    for item in items:
        wanted = num_tokens(item)
        if group and taken + wanted > budget:
            yield group
            group, taken = [], 0
        group.append(item)
        taken += wanted
    if group:
        yield group


def concatenate(batches: Sequence[PackedBatch]) -> PackedBatch:
    """The texts of several batches, all on one device and all causal or none, as one."""
    ends = np.cumsum([batch.num_tokens for batch in batches])
    shifts = [0, *ends[:-1].tolist()]
    starts = [b.cu_seqlens[:-1] + shift for b, shift in zip(batches, shifts, strict=True)]
    end = batches[-1].cu_seqlens[-1:] + shifts[-1]
    return PackedBatch(
        torch.cat([batch.input_ids for batch in batches]),
        torch.cat([batch.position_ids for batch in batches]),
        torch.cat([*starts, end]),
        tuple(length for batch in batches for length in batch.lengths),
        batches[0].causal,
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
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and _suits_flash(q.shape[-1]):
        return varlen_attention(q, k, v, batch)
    if not batch.causal or (q.is_cuda and q.requires_grad):
        return reference_attention(q, k, v, batch)
    if q.requires_grad and q.dtype == torch.bfloat16 and not _is_last_only(q, batch):
        return matmul_attention(q, k, v, batch)
    if q.requires_grad or len(batch.lengths) == 1:
        return reference_attention(q, k, v, batch)
    return rectangular_attention(q, k, v, batch)


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


def matmul_attention(q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
    """The same by its formula, for training in bfloat16 on a CPU, causal and for every token.

    Torch's fused kernel is made for long sequences: its backward pass over a text of 64 tokens
    takes twice the time of these matrix products, over one of 512 three times.
    """
    layout = batch.rectangles
    H, D = q.shape[1:]
    scale = 1 / math.sqrt(D)
    longest = round_up(batch.max_seqlen)
    later = torch.full((longest, longest), -math.inf, dtype=q.dtype).triu(1)
    areas = [b * L for b, L in layout.shapes]
    parts = []
    for (b, L), *qkv in zip(
        layout.shapes,
        *(torch.split(t.index_select(0, layout.rows), areas) for t in (q, k, v)),
        strict=True,
    ):
        size = round_up(L)
        # (b * L, H, D) -> (b * H, size, D): what is added behind a text nobody in it sees.
        q_part, k_part, v_part = (
            F.pad(t.view(b, L, H, D).transpose(1, 2), (0, 0, 0, size - L)).flatten(0, 1)
            for t in qkv
        )
        mask = later[:size, :size]
        scores = torch.baddbmm(mask, q_part, k_part.transpose(1, 2), alpha=scale)
        out = (scores.softmax(-1) @ v_part).view(b, H, size, D)[:, :, :L]
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).index_select(0, layout.places)


@dataclass(frozen=True)
class Rectangles:
    """The rows of a packed batch again, in rectangles of texts of about the same length.

    Lengths are rounded up to a multiple of 16 or, from 128 on, to a quarter of an octave; where
    gradients are wanted to a power of two, since there every rectangle costs more calls. R rows in
    all rectangles. A text shorter than its rectangle is followed by copies of row 0.

    Attributes:
        shapes: texts b and length L of each rectangle.
        rows: int64 (R,), where each row of a rectangle stands in the batch.
        places: int64 (T,), where each row of the batch stands in the rectangles.
        texts: int64 (B,), the text of each line of the rectangles.
        lines: int64 (B,), the line of each text.
        is_real: for each rectangle bool (b, 1, 1, L), False behind the end of a text.
    """

    shapes: tuple[tuple[int, int], ...]
    rows: Tensor
    places: Tensor
    texts: Tensor
    lines: Tensor
    is_real: tuple[Tensor, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Rectangles":
        """The rectangles of a batch of texts of these lengths, which lies on this device."""
        sizes = np.array(lengths)
        starts = np.cumsum(sizes) - sizes
        texts = np.argsort(sizes, kind="stable")
        octaves = np.log2(np.maximum(sizes[texts], _RECTANGLE_STEP))
        if torch.is_grad_enabled():
            groups = np.ceil(octaves)
        else:
            step = np.maximum(_RECTANGLE_STEP, 2 ** np.floor(octaves - 2))
            groups = np.ceil(sizes[texts] / step) * step
        shapes, rows, is_real = [], [], []
        for members in np.split(texts, np.flatnonzero(np.diff(groups)) + 1):
            columns = np.arange(sizes[members[-1]])
            real = columns < sizes[members][:, None]  # (b, L)
            rows.append(np.where(real, starts[members][:, None] + columns, 0).ravel())
            shapes.append(real.shape)
            is_real.append(real)
        all_rows = np.concatenate(rows)
        places = np.empty(sizes.sum(), dtype=np.int64)
        real_rows = np.concatenate([real.ravel() for real in is_real])
        places[all_rows[real_rows]] = np.flatnonzero(real_rows)
        return cls(
            tuple(shapes),
            torch.from_numpy(all_rows).to(device),
            torch.from_numpy(places).to(device),
            torch.from_numpy(texts).to(device),
            torch.from_numpy(np.argsort(texts)).to(device),
            tuple(torch.from_numpy(real)[:, None, None].to(device) for real in is_real),
        )


def rectangular_attention(q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
    """The same in a few calls for all texts of a batch, for inference on a CPU, or on a GPU in a
    number format or head size that ``varlen_attention`` does not take.

    What it costs to call a kernel once for every text is more than what a short text itself costs.
    No token looks at the padding behind its text, so nothing changes.
    """
    layout = batch.rectangles
    last_only = _is_last_only(q, batch)
    areas = [b * L for b, L in layout.shapes]
    heights = [b for b, _ in layout.shapes]
    q_areas = heights if last_only else areas
    q = q.index_select(0, layout.texts if last_only else layout.rows)
    parts = []
    for (b, L), q_part, k_part, v_part, is_real in zip(
        layout.shapes,
        torch.split(q, q_areas),
        torch.split(k.index_select(0, layout.rows), areas),
        torch.split(v.index_select(0, layout.rows), areas),
        layout.is_real,
        strict=True,
    ):
        out = F.scaled_dot_product_attention(
            # (b * L, H, D) -> (b, H, L, D)
            q_part.view(b, -1, *q.shape[1:]).transpose(1, 2),
            k_part.view(b, L, *k.shape[1:]).transpose(1, 2),
            v_part.view(b, L, *v.shape[1:]).transpose(1, 2),
            attn_mask=is_real if last_only else None,
            is_causal=not last_only,
        )
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts).index_select(0, layout.lines if last_only else layout.places)


def weighted_sums(q: Tensor, x: Tensor, batch: PackedBatch) -> Tensor:
    """Sums (B, H, C) of each text's rows of ``x`` (T, C), weighted by softmax of q x.

    Args:
        q: (B, H, C), the queries of each text.
        x: (T, C).
        batch: the layout of x.
    """
    dtype = q.dtype
    if not torch.is_autocast_enabled("cpu"):
        # So little work that bfloat16 gains nothing, and oneDNN would make a kernel for each shape.
        q, x = q.float(), x.float()
    if len(batch.lengths) == 1:
        return ((q @ x.t()).softmax(-1) @ x).to(dtype)
    layout = batch.rectangles
    q_parts = torch.split(q.index_select(0, layout.texts), [b for b, _ in layout.shapes])
    x_parts = torch.split(x.index_select(0, layout.rows), [b * L for b, L in layout.shapes])
    sums = []
    for (b, L), q_part, x_part, is_real in zip(
        layout.shapes, q_parts, x_parts, layout.is_real, strict=True
    ):
        rows = x_part.view(b, L, -1)
        scores = q_part @ rows.transpose(1, 2)  # (b, H, L)
        sums.append(scores.where(is_real[:, 0], -math.inf).softmax(-1) @ rows)
    return torch.cat(sums).index_select(0, layout.lines).to(dtype)


def varlen_attention(q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
    """The same in one FlashAttention kernel: CUDA, bfloat16 or float16, D as ``_suits_flash``."""
    from torch.nn.attention.varlen import varlen_attn

    # Torch 2.15 would take cuDNN's, which makes a plan for each shape in many times what a batch
    # takes, and keeps it; packed batches hardly ever have the same twice.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if _is_last_only(q, batch):
        cu_q = torch.arange(len(batch.lengths) + 1, dtype=torch.int32, device=q.device)
        max_q, window = 1, (-1, -1)
    else:
        cu_q, max_q = batch.cu_seqlens, batch.max_seqlen
        window = (-1, 0 if batch.causal else -1)
    out = varlen_attn(q, k, v, cu_q, batch.cu_seqlens, max_q, batch.max_seqlen, window_size=window)
    assert isinstance(out, Tensor)  # a tuple only where the log-sum-exp is asked for
    return out


def _suits_flash(head_size: int) -> bool:
    # Torch pads others where it chooses the kernel by itself, and refuses them where it is called.
    return head_size % 8 == 0 and head_size <= 256


def _is_last_only(q: Tensor, batch: PackedBatch) -> bool:
    # With one token in each text both readings are the same attention.
    return q.shape[0] == len(batch.lengths)
