"""Muon on processors that do not compute in bfloat16.

torch's Muon makes each step orthogonal in bfloat16, always. Where the processor has to imitate that
a step of the starter's four blocks takes 12 s of a core; in float32 it is a third of a second.
"""

import math
from typing import Any

import torch
from torch import Tensor

from model.bf16 import is_native

# Newton and Schulz's iteration, with the coefficients and the number of rounds of torch's Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
_TINY = 1e-7


class Muon(torch.optim.Muon):
    """torch's, scaled to AdamW's steps; in float32 where bfloat16 is not the device's own.

    Takes matrices on one device.
    """

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float) -> None:
        super().__init__(groups, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all matrices that have a gradient."""
        if is_native(self.param_groups[0]["params"][0].device):
            super().step(closure)  # type: ignore[no-untyped-call]
            return
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                kept = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                direction = orthogonalize(matrix.grad.lerp(kept, momentum))
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(direction, alpha=-0.2 * rate * math.sqrt(max(matrix.shape)))


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: all singular values become about 1.

    Args:
        matrix: (A, B), in the precision in which this is computed.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if is_tall else matrix
    found = found / found.norm().clamp(min=_TINY)
    for _ in range(_ROUNDS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), found, beta=_A)
    return found.T if is_tall else found
