"""The output layer over a large vocabulary: exact in chunks, and sampled, right on average."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from training.output_layer import (
    SampledSoftmax,
    chunked_cross_entropy,
    inclusion_probabilities,
    token_frequencies,
)


def output_layer_inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(1100, 8, dtype=dtype, requires_grad=True)  # two chunks and a bit
    weight = torch.randn(300, 8, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(300, (1100,))


def test_chunked_loss_and_gradients_are_those_of_cross_entropy() -> None:
    hidden, weight, targets = output_layer_inputs()
    whole = F.cross_entropy(F.linear(hidden, weight), targets)
    chunked = chunked_cross_entropy(hidden, weight, targets)
    expected = torch.autograd.grad(3 * whole, (hidden, weight))
    got = torch.autograd.grad(3 * chunked, (hidden, weight))
    torch.testing.assert_close(chunked, whole)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)


def test_chunked_loss_is_close_under_bfloat16_autocast() -> None:
    hidden, weight, targets = output_layer_inputs()
    exact = chunked_cross_entropy(hidden, weight, targets)
    exact_gradient = torch.autograd.grad(exact, weight)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = chunked_cross_entropy(hidden, weight, targets)
    gradient = torch.autograd.grad(rounded, weight)[0]
    assert rounded.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0)
    assert F.cosine_similarity(gradient.flatten(), exact_gradient.flatten(), dim=0) > 0.999


def test_without_a_gradient_only_the_loss_is_computed() -> None:
    hidden, weight, targets = output_layer_inputs()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        loss = chunked_cross_entropy(hidden, weight, targets)
    assert counter.get_total_flops() == 2 * len(hidden) * weight.numel()  # of the logits
    torch.testing.assert_close(loss, chunked_cross_entropy(hidden, weight, targets).detach())


def test_sampled_softmax_of_all_tokens_is_exact() -> None:
    hidden, weight, targets = output_layer_inputs()
    sampled = SampledSoftmax(np.ones(300), 300, seed=0)
    torch.testing.assert_close(
        sampled(hidden, weight, targets, step=0), chunked_cross_entropy(hidden, weight, targets)
    )


@pytest.mark.parametrize("sampler", ["unigram", "log_uniform"])
def test_sampled_softmax_is_right_on_average(sampler: str) -> None:
    hidden, weight, targets = output_layer_inputs()
    hidden = 0.3 * hidden
    counts = np.bincount(targets, minlength=300)
    frequencies = token_frequencies(sampler, counts)  # type: ignore[arg-type]
    sampled = SampledSoftmax(frequencies, 100, seed=0)
    losses = [sampled(hidden, weight, targets, step).item() for step in range(200)]
    exact = chunked_cross_entropy(hidden, weight, targets).item()
    # The sum over the vocabulary is right on average, so its logarithm is a little low.
    assert exact - 0.03 < np.mean(losses) < exact
    assert losses[0] != losses[1]
    assert losses[0] == sampled(hidden, weight, targets, step=0).item()


def test_inclusion_probabilities_are_proportional_and_capped() -> None:
    frequencies = np.array([8.0, 1.0, 0.5, 0.5, 100.0])
    chances = inclusion_probabilities(frequencies, 3)
    assert chances.sum() == pytest.approx(3)
    assert chances.tolist() == pytest.approx([1, 0.5, 0.25, 0.25, 1])
