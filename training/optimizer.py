"""What learns, and how fast."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.gpt2 import GPT2ForSequenceClassification, GPT2Model
from training.config import TrainConfig
from training.muon import Muon


def parameter_groups(
    model: GPT2ForSequenceClassification, config: TrainConfig
) -> list[dict[str, Any]]:
    """What learns: the token embeddings apart where their rate is another."""
    embeddings = model.transformer.wte.weight
    trained = [p for p in model.parameters() if p.requires_grad]
    if config.embedding_rate == 1 or not embeddings.requires_grad:
        return [{"params": trained, "lr": config.learning_rate}]
    return [
        {"params": [embeddings], "lr": config.embedding_rate * config.learning_rate},
        {"params": [p for p in trained if p is not embeddings], "lr": config.learning_rate},
    ]


def make_optimizers(
    name: Literal["adamw", "muon"],
    transformer: GPT2Model,
    groups: list[dict[str, Any]],
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> list[torch.optim.Optimizer]:
    """AdamW of all groups; with ``muon``, Muon takes the blocks' matrices out of them.

    Muon makes each matrix' step orthogonal and, scaled to AdamW's size, takes AdamW's rates:
    Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024); Liu et al., "Muon is
    scalable for LLM training" (2025).

    Args:
        name: which.
        transformer: whose blocks' matrices they are.
        groups: as torch's optimizers take them; each keeps its settings in both.
        weight_decay: of groups that say nothing of it.
        betas: AdamW's.
    """
    matrices: set[torch.Tensor] = set()
    if name == "muon":
        matrices = {p for p in transformer.h.parameters() if p.requires_grad and p.ndim == 2}
    by_adamw, by_muon = (
        [{**g, "params": [p for p in g["params"] if (p in matrices) is of_muon]} for g in groups]
        for of_muon in (False, True)
    )
    adamw = torch.optim.AdamW(by_adamw, betas=betas, weight_decay=weight_decay, fused=True)
    if not matrices:
        return [adamw]
    with_matrices = [group for group in by_muon if group["params"]]
    return [adamw, Muon(with_matrices, weight_decay)]


def running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """How ``AveragedModel`` takes weights in: with less of those before at first, or a short
    training would keep much of its first step."""

    def update(averages: Any, weights: Any, num_averaged: Any) -> None:
        num_before = int(num_averaged)
        kept = min(decay, (1 + num_before) / (10 + num_before))
        average = get_ema_multi_avg_fn(kept)  # type: ignore[no-untyped-call]
        average(averages, weights, num_averaged)

    return update


def schedule(config: TrainConfig, total_steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at each step."""
    if config.schedule == "constant":
        return lambda step: 1.0
    return lambda step: warmup_then_cosine(step, total_steps, config.warmup_fraction)


def warmup_then_cosine(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Factor on the learning rate: up to 1 in a line, down to 0 along half a cosine."""
    warmup = max(1, int(warmup_fraction * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
