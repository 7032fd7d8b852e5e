"""LoRA: linear layers, frozen but for the head, with a low-rank update, merged before saving.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

import math

import torch
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """``base(x) + alpha * x A B``, with the weight and bias that the sum has as one layer.

    As in the book, ``alpha`` is the factor itself; other implementations divide it by the rank.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.alpha = alpha
        self.A = nn.Parameter(torch.empty(base.in_features, rank))
        self.B = nn.Parameter(torch.zeros(rank, base.out_features))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """(out, in), the sum; gradients reach what learns through it."""
        return self.base.weight + self.alpha * (self.A @ self.B).t()

    @property
    def bias(self) -> Tensor | None:
        """(out,), the base's."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in) to (..., out)."""
        out: Tensor = self.base(x) + self.alpha * (x @ self.A @ self.B)
        return out


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Puts a LoRALinear around every linear layer, in place; draws from torch's generator."""
    for name, child in list(model.named_children()):
        if isinstance(child, nn.Linear):
            setattr(model, name, LoRALinear(child, rank, alpha))
        else:
            add_lora(child, rank, alpha)


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Adds each update to its layer and takes the LoRALinear out again, in place."""
    for name, child in list(model.named_children()):
        if isinstance(child, LoRALinear):
            child.base.weight.copy_(child.weight)
            setattr(model, name, child.base)
        else:
            merge_lora(child)
