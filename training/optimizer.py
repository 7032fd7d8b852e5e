"""What learns, and how fast."""

import math
from collections.abc import Callable
from typing import Any

from model.gpt2 import GPT2ForSequenceClassification
from training.config import TrainConfig


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
