"""Which parts of the classifier learn; everything else stays as pretrained."""

from torch import nn

from model.gpt2 import GPT2ForSequenceClassification
from training.config import TrainConfig
from training.lora import add_lora


def freeze(model: GPT2ForSequenceClassification, config: TrainConfig) -> int:
    """Marks the trained part, adding LoRA where the recipe says so.

    Args:
        model: changed in place.
        config: ``trained`` is ``head`` (the new head alone), ``last_block`` or ``last_two_blocks``
            (with the final LayerNorm and the head), ``all``, or ``lora`` (the head, and a
            low-rank update of every linear layer).

    Returns:
        The number of parameters that learn.
    """
    backbone = model.transformer
    parts: dict[str, list[nn.Module]] = {
        "head": [model.score],
        "last_block": [model.score, backbone.ln_f, *backbone.h[-1:]],
        "last_two_blocks": [model.score, backbone.ln_f, *backbone.h[-2:]],
        "all": [model],
        "lora": [model.score],  # its own weights, too: they are as drawn
    }
    model.requires_grad_(False)
    for part in parts[config.trained]:
        part.requires_grad_(True)
    if config.trained == "lora":
        add_lora(model, config.lora_rank, config.lora_alpha)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def num_frozen_blocks(trained: str, n_layer: int) -> int:
    """How many of the lowest blocks no gradient reaches; at least the last one is left to run.

    Their output never changes, so it need not be computed twice.
    """
    return {"head": n_layer - 1, "last_block": n_layer - 1, "last_two_blocks": n_layer - 2}.get(
        trained, 0
    )
