"""Continuing texts with a language model, many prompts at once."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.gpt2 import GPT2LMHeadModel
from model.packing import pack
from model.tokenizer import ENDOFTEXT, decode, encode


@torch.inference_mode()
def next_token_logits(model: GPT2LMHeadModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Logits (B, V) of what follows each prompt; no other row is computed."""
    device = model.transformer.wte.weight.device
    hidden = model.transformer(pack(prompts).to(device), last_only=True)  # (B, C)
    return F.linear(hidden, model.transformer.wte.weight).float()


def generate(
    model: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """The tokens that follow each prompt, up to ENDOFTEXT, which is left out.

    Every token is computed from the whole text anew: simple, and for a few dozen tokens quick
    enough.

    Args:
        model: in evaluation.
        prompts: token ids, at least one each.
        max_new_tokens: a text ends earlier where it fills the model's ``n_positions``.
        temperature: 0 takes the likeliest token; 1 draws from the model's own distribution.
        generator: of the draws, on the CPU.
    """
    texts = [list(prompt) for prompt in prompts]
    growing = list(range(len(texts)))
    for _ in range(max_new_tokens):
        growing = [i for i in growing if len(texts[i]) < model.config.n_positions]
        if not growing:
            break
        logits = next_token_logits(model, [texts[i] for i in growing]).cpu()
        if temperature > 0:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        else:
            chosen = logits.argmax(-1, keepdim=True)
        tokens = dict(zip(growing, chosen.flatten().tolist(), strict=True))
        growing = [i for i, token in tokens.items() if token != ENDOFTEXT]
        for i in growing:
            texts[i].append(tokens[i])
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def sample(
    model: GPT2LMHeadModel, prompts: Sequence[str], max_new_tokens: int, seed: int
) -> list[str]:
    """These prompts, cut to what the model takes, with what it draws to follow them."""
    if not prompts:
        return []
    begun = [[ENDOFTEXT, *encode(p, model.config.n_positions - 1)[0]] for p in prompts]
    generator = torch.Generator().manual_seed(seed)
    drawn = generate(model, begun, max_new_tokens, temperature=1.0, generator=generator)
    return [prompt + decode(tokens) for prompt, tokens in zip(prompts, drawn, strict=True)]
