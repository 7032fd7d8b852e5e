"""Next-token losses over a large vocabulary, where the output layer outweighs a small network.

T tokens, C channels, V tokens in the vocabulary, S drawn tokens. Both take the hidden states and
the output layer's weight instead of (T, V) logits, which for 4,096 tokens of GPT-2's vocabulary
would fill 0.8 GB, and as much again for their gradient.
"""

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

# Rows of logits alive at once: 100 MB over GPT-2's vocabulary, and still large matrix products.
_CHUNK_TOKENS = 512

Sampler = Literal["unigram", "log_uniform"]


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The exact mean cross-entropy, a few hundred rows of logits at a time.

    The gradient is computed together with the loss, while a chunk's logits are there, so nothing is
    computed twice; under ``torch.no_grad`` the loss alone is.

    Args:
        hidden: (T, C), what the output layer reads.
        weight: (V, C).
        targets: int64 (T,).

    Returns:
        float32 scalar, in nats.
    """
    if not torch.is_grad_enabled():  # in the function it never is
        hidden, weight = hidden.detach(), weight.detach()
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wants_gradient = any(ctx.needs_input_grad)
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_gradient else None
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), _CHUNK_TOKENS):
            rows = slice(start, start + _CHUNK_TOKENS)
            raw = F.linear(hidden[rows], weight)  # (chunk, V)
            logits = raw.float()
            log_z = logits.logsumexp(-1, keepdim=True)
            wanted = targets[rows, None]
            total += (log_z - logits.gather(1, wanted)).sum()
            if d_weight is not None:
                # d loss / d logits: the probabilities, less one at the target
                slope = logits.sub_(log_z).exp_()
                slope.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=slope.dtype))
                slope = slope.to(raw.dtype)
                d_hidden[rows] = slope @ weight.to(raw.dtype)
                d_weight += slope.t() @ hidden[rows].to(raw.dtype)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.num_tokens = len(hidden)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        d_hidden, d_weight = ctx.saved_tensors
        factor = gradients[0] / ctx.num_tokens
        of_hidden, of_weight = ctx.dtypes
        return (d_hidden * factor).to(of_hidden), (d_weight * factor).to(of_weight), None


class SampledSoftmax:
    """Cross-entropy against the target and about S drawn tokens instead of all V.

    Token i is drawn with chance p_i, each independently of the others and once for the whole batch,
    and counts 1 / p_i in the softmax's sum, so that the sum is right on average (and its logarithm,
    hence the loss, a little low). Tokens frequent enough are always drawn and count exactly.
    (Bengio and Senécal, "Adaptive importance sampling to accelerate training of a neural
    probabilistic language model", 2008, draw with replacement.)
    """

    def __init__(self, frequencies: NDArray[np.float64], num_samples: int, seed: int) -> None:
        """Prepares the chances.

        Args:
            frequencies: (V,), positive, in any unit: draws are in proportion where p_i < 1.
            num_samples: S, how many tokens are drawn on average; less than V.
            seed: of the draws; those of one step are always the same.
        """
        self._chances = inclusion_probabilities(frequencies, num_samples)
        self._seed = seed

    def __call__(self, hidden: Tensor, weight: Tensor, targets: Tensor, step: int) -> Tensor:
        """The estimated mean loss, float32, in nats; shapes as in ``chunked_cross_entropy``.

        On a CPU the weight's gradient is sparse (``RowGradient``).
        """
        drawn, log_chances = (tensor.to(hidden.device) for tensor in self._draw(step))
        sparse = not hidden.is_cuda
        of_target = (hidden * F.embedding(targets, weight, sparse=sparse)).sum(-1).float()  # (T,)
        others = F.linear(hidden, F.embedding(drawn, weight, sparse=sparse)).float()  # (T, S)
        others = others - log_chances
        # Where a target was drawn as well, it counts once.
        place = torch.searchsorted(drawn, targets).clamp_(max=len(drawn) - 1)
        twice = (drawn[place] == targets).nonzero()[:, 0]
        others[twice, place[twice]] = -torch.inf
        log_z = torch.logaddexp(others.logsumexp(-1), of_target)
        return (log_z - of_target).mean()

    def _draw(self, step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self._seed, step))
        drawn = np.flatnonzero(rng.random(len(self._chances)) < self._chances)
        log_chances = np.log(self._chances[drawn]).astype(np.float32)
        return torch.from_numpy(drawn), torch.from_numpy(log_chances)


def inclusion_probabilities(
    frequencies: NDArray[np.float64], num_samples: int
) -> NDArray[np.float64]:
    """Chances min(1, c f_i) whose sum is ``num_samples``; c is found by setting the largest to 1.

    >>> inclusion_probabilities(np.array([8.0, 1.0, 1.0]), 2)
    array([1. , 0.5, 0.5])
    """
    order = np.sort(frequencies)[::-1]
    rest = np.cumsum(order[::-1])[::-1]  # of each token and all rarer ones
    certain = np.arange(len(order))
    factors = (num_samples - certain) / rest
    # With the k most frequent certain, the next one must not need a chance above 1.
    fits = factors * order <= 1
    chances: NDArray[np.float64] = np.minimum(1.0, factors[np.argmax(fits)] * frequencies)
    return chances


def token_frequencies(sampler: Sampler, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each token is to be drawn, relative to others.

    Args:
        sampler: ``unigram``: as often as in the training text, counts plus one; ``log_uniform``: by
            rank alone, since GPT-2 numbers its tokens roughly from frequent to rare.
        counts: (V,), occurrences in the training text.
    """
    if sampler == "unigram":
        return (counts + 1).astype(np.float64)
    ranks = np.arange(1, len(counts) + 1, dtype=np.float64)
    frequencies: NDArray[np.float64] = np.log1p(1 / ranks)
    return frequencies
