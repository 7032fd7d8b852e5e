"""Linear layers in 8-bit integers, for serving on CPUs: a classifier in float32 is converted whole.

Weights are rounded once, a scale for each output; activations at every call, a scale for each
token, so that a text's answer does not depend on its neighbours in the batch. The products are
oneDNN's, which is where torch's own compiler sends quantized linear layers on x86. torch.ao's
dynamic layers, the other way, are deprecated and scale the whole batch alike.
"""

import torch
from torch import Tensor, nn

from model import bf16
from model.gpt2 import Attention, Block, GPT2ForSequenceClassification, pad_rows
from model.packing import PackedBatch, packed_attention

_LEVELS = 127
_ZERO = 128  # activations are stored unsigned, with this for 0


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and int8 activations, products summed in int32.

    Args:
        weight: (out, in), float32.
        bias: (out,), float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        scales = _scales(weight)  # (out, 1)
        rounded = (weight / scales).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded.contiguous(), None)
        self._weight_scales = scales.flatten().contiguous()
        self._weight_zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (T, in) to (T, out), float32."""
        scales = _scales(x)  # (T, 1)
        # The half makes rounding of the cut that follows.
        rounded = (x * scales.reciprocal()).add_(_ZERO + 0.5).to(torch.uint8)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded,
            1.0,  # scale of x: each row has its own, applied below
            _ZERO,
            self._weight,
            self._weight_scales,
            self._weight_zeros,
            None,  # bias
            1.0,  # scale of the output
            0,  # zero of the output
            torch.float32,
            "none",  # no operation after it
            [],
            "",
        )
        return out.mul_(scales).add_(self._bias)


class Int8Attention(Attention):
    """Attention between int8 projections; itself in bfloat16 where the processor has that.

    In float32 it would take as long as the projections of a text of 1,024 tokens.
    """

    def __init__(self, attention: Attention, last_only: bool) -> None:
        nn.Module.__init__(self)
        self.n_head = attention.n_head
        weight, bias = attention.c_attn.weight, attention.c_attn.bias
        C = weight.shape[1]
        if last_only:
            self._q = Int8Linear(weight[:C], bias[:C])
            self._kv = Int8Linear(weight[C:], bias[C:])
        else:
            self._qkv = Int8Linear(weight, bias)
        self.add_module("c_proj", _convert(attention.c_proj))

    def attend(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """As in ``Attention``."""
        q, k, v = self._qkv(x)[: batch.num_tokens].chunk(3, dim=-1)
        return self._heads(q, k, v, batch)

    def attend_last(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """As in ``Attention``."""
        k, v = self._kv(x)[: batch.num_tokens].chunk(2, dim=-1)
        last = pad_rows(x[batch.last_rows], batch.num_last_rows)
        return self._heads(self._q(last)[: batch.num_texts], k, v, batch)

    def _heads(self, q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch) -> Tensor:
        dtype = torch.bfloat16 if bf16.is_native(q.device) else torch.float32
        q, k, v = (t.reshape(len(t), self.n_head, -1).to(dtype) for t in (q, k, v))
        return packed_attention(q, k, v, batch).flatten(1).float()


def is_supported() -> bool:
    """Whether this processor multiplies 8-bit integers (VNNI), and torch knows how."""
    return torch.cpu._is_vnni_supported() and hasattr(torch.ops.onednn, "qlinear_pointwise")


@torch.no_grad()
def quantize(model: GPT2ForSequenceClassification) -> None:
    """Puts int8 layers into every block of a float32 classifier, in place.

    Embeddings, norms and the head stay as they are: they are little of the work.
    """
    blocks = [block for block in model.transformer.h if isinstance(block, Block)]
    for block in blocks:
        block.attn = Int8Attention(block.attn, last_only=block is blocks[-1])
        block.mlp.add_module("c_fc", _convert(block.mlp.c_fc))
        block.mlp.add_module("c_proj", _convert(block.mlp.c_proj))


def _convert(layer: nn.Linear) -> Int8Linear:
    return Int8Linear(layer.weight, layer.bias)


def _scales(rows: Tensor) -> Tensor:
    """What one level is worth in each row: (rows, 1)."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / _LEVELS
