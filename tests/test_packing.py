"""Packed layout, and attention that never crosses from one text into the next."""

import math

import pytest
import torch

from model import packing
from model.bf16 import is_native
from model.packing import (
    concatenate,
    matmul_attention,
    pack,
    packed_attention,
    rectangular_attention,
    reference_attention,
    round_up,
    varlen_attention,
    weighted_sums,
)
from tests.conftest import OnGpu


def test_layout_of_two_texts() -> None:
    batch = pack([[7, 8, 9], [5, 6]])
    assert batch.input_ids.tolist() == [7, 8, 9, 5, 6]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.cu_seqlens.dtype == torch.int32
    assert batch.last_rows.tolist() == [2, 4]
    assert batch.max_seqlen == 3


@pytest.mark.parametrize(("learns", "share", "most"), [(False, 1 / 16, 160), (True, 1 / 4, 45)])
def test_rows_are_rounded_to_a_few_numbers(learns: bool, share: float, most: int) -> None:
    with torch.set_grad_enabled(learns):
        rounded = [round_up(n) for n in range(1, 16385)]
        assert [round_up(r) for r in rounded] == rounded
    assert all(n <= r <= n + max(7, n * share) for n, r in enumerate(rounded, start=1))
    assert len(set(rounded)) < most


@pytest.mark.parametrize("texts", [[], [[1], []]])
def test_nothing_to_read_is_refused(texts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack(texts)


def test_last_rows_are_padded_from_eight_texts_on() -> None:
    assert [pack([[0]] * n).num_last_rows for n in (1, 7, 8, 9)] == [1, 7, 8, 16]


@pytest.mark.parametrize("causal", [True, False])
def test_attention_equals_its_formula_text_by_text(causal: bool) -> None:
    torch.manual_seed(0)
    batch = pack([[0] * 5, [0], [0] * 3], causal=causal).to(torch.device("cpu"))
    q, k, v = torch.randn(3, 9, 2, 4)
    result = packed_attention(q, k, v, batch)
    last = packed_attention(q[batch.last_rows], k, v, batch)
    for start, end in [(0, 5), (5, 6), (6, 9)]:
        for row in range(start, end):
            for head in range(2):
                seen = slice(start, row + 1 if causal else end)
                scores = k[seen, head] @ q[row, head] / 2.0  # sqrt(D) = 2
                expected = scores.softmax(0) @ v[seen, head]
                torch.testing.assert_close(result[row, head], expected)
    torch.testing.assert_close(last, result[batch.last_rows])


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize(
    "lengths",
    [(5, 1, 70, 3, 64, 5, 200), (1, 2), (1, 1), (40, 9), (7, 7, 7), (33,), (33, 64, 250, 130)],
    ids=str,
)
def test_rectangles_change_nothing(lengths: tuple[int, ...], last_only: bool) -> None:
    torch.manual_seed(0)
    batch = pack([[0] * n for n in lengths])
    q, k, v = torch.randn(3, sum(lengths), 2, 8)
    q = q[batch.last_rows] if last_only else q
    torch.testing.assert_close(
        rectangular_attention(q, k, v, batch), reference_attention(q, k, v, batch)
    )
    x = torch.randn(sum(lengths), 6)
    queries = torch.randn(len(lengths), 3, 6)
    by_text = [(a @ t.T).softmax(-1) @ t for a, t in zip(queries, x.split(lengths), strict=True)]
    torch.testing.assert_close(weighted_sums(queries, x, batch), torch.stack(by_text))
    assert sum(b for b, _ in batch.rectangles.shapes) == len(lengths)
    assert len(batch.rectangles.rows) <= max(2 * sum(lengths), 16 * len(lengths))
    with torch.no_grad():  # less is padded
        shapes = pack([[0] * n for n in lengths]).rectangles.shapes
    rest = sorted(lengths)
    for height, longest in shapes:
        members, rest = rest[:height], rest[height:]
        assert longest == members[-1] < members[0] + max(16, longest // 4)
    assert not rest


@pytest.mark.parametrize("lengths", [(5, 1, 70), (40,), (16, 17, 3, 33, 33, 8)])
def test_the_formula_gives_the_same_and_the_same_gradients(lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    batch = pack([[0] * n for n in lengths])
    values, weights = torch.randn(3, sum(lengths), 2, 8), torch.randn(sum(lengths), 2, 8)
    found = []
    for attention in (matmul_attention, reference_attention):
        q, k, v = leaves = [value.clone().requires_grad_() for value in values]
        out = attention(q, k, v, batch)
        (out * weights).sum().backward()
        found.append([out, *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_training_in_bfloat16_stays_close_to_float32(causal: bool, last_only: bool) -> None:
    torch.manual_seed(0)
    batch = pack([[0] * n for n in (5, 1, 70)], causal=causal)
    q, k, v = torch.randn(3, 76, 2, 8)
    q = q[batch.last_rows] if last_only else q
    out = packed_attention(q.bfloat16().requires_grad_(), k.bfloat16(), v.bfloat16(), batch)
    assert out.dtype == torch.bfloat16
    expected = reference_attention(q, k, v, batch)
    torch.testing.assert_close(out.float(), expected, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("lengths", [(5, 1, 70, 64), (1, 1, 1), (40,)])
def test_what_flash_attention_is_told_is_the_same_attention(
    lengths: tuple[int, ...], last_only: bool, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_the_arguments(q, k, v, cu_q, cu_k, max_q, max_k, *, window_size):
        """The kernel's contract: offsets int32, bounds, causal from the end where (-1, 0)."""
        assert not torch.backends.cuda.cudnn_sdp_enabled()  # it would plan anew for each shape
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert (cu_q[-1], cu_k[-1]) == (len(q), len(k))
        assert (cu_q.diff().max(), cu_k.diff().max()) == (max_q, max_k)
        out = []
        for i in range(len(cu_q) - 1):
            own_q, own_k = slice(*cu_q[i : i + 2].tolist()), slice(*cu_k[i : i + 2].tolist())
            scores = torch.einsum("qhd,khd->hqk", q[own_q], k[own_k]) / math.sqrt(q.shape[-1])
            later = torch.ones(scores.shape[1:]).triu(1 + scores.shape[2] - scores.shape[1])
            if window_size == (-1, 0):
                scores = scores.masked_fill(later.bool(), -math.inf)
            else:
                assert window_size == (-1, -1)
            out.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[own_k]))
        return torch.cat(out)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_the_arguments)
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.manual_seed(0)
    batch = pack([[0] * n for n in lengths], causal=causal)
    q, k, v = torch.randn(3, sum(lengths), 2, 8)
    q = q[batch.last_rows] if last_only else q
    torch.testing.assert_close(
        varlen_attention(q, k, v, batch), reference_attention(q, k, v, batch)
    )


@pytest.mark.parametrize(
    ("dtype", "head_size", "kernel"),
    [
        (torch.bfloat16, 64, "varlen_attention"),
        (torch.float16, 256, "varlen_attention"),
        (torch.bfloat16, 20, "rectangular_attention"),
        (torch.bfloat16, 264, "rectangular_attention"),
        (torch.float32, 64, "rectangular_attention"),
    ],
)
def test_on_a_gpu_flash_attention_gets_the_head_sizes_that_it_takes(
    dtype: torch.dtype, head_size: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of others it says that head_size must be a multiple of 8, or at most 256."""
    called: list[str] = []
    for name in ("varlen_attention", "reference_attention", "rectangular_attention"):
        monkeypatch.setattr(packing, name, lambda *_, name=name: called.append(name))
    q = torch.zeros(3, 1, head_size, dtype=dtype).as_subclass(OnGpu)
    packed_attention(q, q, q, pack([[1, 2], [3]]))
    packed_attention(q.requires_grad_(), q, q, pack([[1, 2], [3]]))  # rectangles are for inference
    assert called == [kernel, kernel.replace("rectangular", "reference")]


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or not is_native(torch.device("cuda")),
    reason="needs an NVIDIA GPU with bfloat16",
)
@pytest.mark.parametrize("last_only", [False, True])
def test_both_kernels_agree(last_only: bool) -> None:
    torch.manual_seed(0)
    batch = pack([[0] * n for n in (5, 1, 700, 64)]).to(torch.device("cuda"))
    q, k, v = torch.randn(3, 770, 12, 64, device="cuda", dtype=torch.bfloat16)
    q = q[batch.last_rows] if last_only else q
    torch.testing.assert_close(
        varlen_attention(q, k, v, batch), reference_attention(q, k, v, batch), atol=2e-2, rtol=2e-2
    )


@pytest.mark.parametrize("causal", [True, False])
def test_concatenated_batches_are_the_batch_of_all_their_texts(causal: bool) -> None:
    texts = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], [11]]
    parts = [pack(own, causal=causal) for own in (texts[:2], texts[2:3], texts[3:])]
    joined, whole = concatenate(parts), pack(texts, causal=causal)
    assert joined.lengths == whole.lengths
    assert joined.causal is causal
    for name in ("input_ids", "position_ids", "cu_seqlens"):
        one, other = getattr(joined, name), getattr(whole, name)
        assert one.dtype == other.dtype
        assert one.equal(other)
