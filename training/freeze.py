"""Which parts of the classifier learn; everything else stays as pretrained."""

from torch import nn

from model.gpt2 import GPT2ForSequenceClassification


def freeze(model: GPT2ForSequenceClassification, trained: str) -> int:
    """Marks the trained part and returns its number of parameters.

    Args:
        model: changed in place.
        trained: ``head`` (the new head alone), ``last_block`` or ``last_two_blocks`` (with the
            final LayerNorm and the head), or ``all``.
    """
    backbone = model.transformer
    parts: dict[str, list[nn.Module]] = {
        "head": [model.score],
        "last_block": [model.score, backbone.ln_f, *backbone.h[-1:]],
        "last_two_blocks": [model.score, backbone.ln_f, *backbone.h[-2:]],
        "all": [model],
    }
    model.requires_grad_(False)
    for part in parts[trained]:
        part.requires_grad_(True)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def num_frozen_blocks(trained: str, n_layer: int) -> int:
    """How many of the lowest blocks no gradient reaches; at least the last one is left to run.

    Their output never changes, so it need not be computed twice.
    """
    return {"head": n_layer - 1, "last_block": n_layer - 1, "last_two_blocks": n_layer - 2}.get(
        trained, 0
    )
