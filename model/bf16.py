"""Linear layers in bfloat16 with their weights laid out for the CPU's matrix instructions, once.

The products are oneDNN's, which is where torch's own compiler sends linear layers on x86. As torch
calls them otherwise, they lay out the same weights again at every call: of a short text that is a
third of the time.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from model.gpt2 import Block, GPT2ForSequenceClassification

# Rows of x for which the layout is chosen; it serves every other number as well.
_TYPICAL_ROWS = 256

_LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


class Bfloat16Linear(nn.Module):
    """A linear layer for inference.

    Args:
        layer: its weights are rounded to bfloat16 where they are not.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().bfloat16()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)
        self._bias = layer.bias.detach().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (R, in) to (R, out) in bfloat16."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.bfloat16(), self._weight, self._bias, "none", [], ""
        )
        return out


def is_native(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself; on CUDA FlashAttention needs the same GPUs."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported()


def is_supported() -> bool:
    """Whether this processor multiplies bfloat16, and torch knows how to lay out weights for it."""
    native = is_native(torch.device("cpu"))
    return native and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def lay_out_weights(model: GPT2ForSequenceClassification) -> None:
    """Puts Bfloat16Linear into every block of a bfloat16 classifier, in place.

    The last block's ``c_attn`` is read by its parts, and stays.
    """
    for block in model.transformer.h[:-1]:
        _lay_out(block, _LAYERS)
    _lay_out(model.transformer.h[-1], [name for name in _LAYERS if name != "attn.c_attn"])


def laid_out(block: Block) -> Block:
    """The same block with Bfloat16Linear in it; the given one stays as it is.

    What lies between the products is computed in the block's own format.
    """
    shared = {id(parameter): parameter for parameter in block.parameters()}
    other = copy.deepcopy(block, shared)
    _lay_out(other, _LAYERS)
    return other


def _lay_out(block: nn.Module, names: Iterable[str]) -> None:
    for name in names:
        layer = block.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        block.set_submodule(name, Bfloat16Linear(layer))
