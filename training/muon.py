"""Muon on every processor, its work divided among the processes of a run.

torch's makes each step orthogonal in bfloat16, always, and all of it in every process. Where the
processor has to imitate bfloat16 a step of the starter's four blocks takes 12 s of a core; in
float32 it is a third of a second.
"""

import math
from typing import Any

import torch
from torch import Tensor

from model.bf16 import is_native
from training.parallel import divide_work

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
        """One step of all matrices that have a gradient, the same in each process."""
        is_native_here = is_native(self.param_groups[0]["params"][0].device)
        precision = torch.bfloat16 if is_native_here else torch.float32
        for group in self.param_groups:
            rate = group["lr"]
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            averages = [
                self._averaged(matrix, matrix.grad, group["momentum"]).to(precision)
                for matrix in matrices
            ]
            directions = divide_work(orthogonalize, averages)
            for matrix, direction in zip(matrices, directions, strict=True):
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(direction, alpha=-0.2 * rate * math.sqrt(max(matrix.shape)))

    def _averaged(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """The gradient, smoothed by those before it, as Nesterov's momentum looks ahead."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        kept = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(kept, momentum)


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
