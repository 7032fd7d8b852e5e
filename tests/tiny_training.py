"""A recipe and a corpus for training runs of a second."""

from pathlib import Path

import numpy as np

_RANDOM = """base = "random"
n_layer = 2
n_head = 4
n_embd = 32
"""
TINY_RECIPE = f"""
{_RANDOM}trained = "all"
precision = "float32"
epochs = 2
batch_size = 8
learning_rate = 3e-3
schedule = "cosine"
eval_every = 10
"""


def on_base(recipe: str, base: Path) -> str:
    """A tiny recipe whose first weights are not drawn, but those of a base of its size."""
    return recipe.replace(_RANDOM, f'base = "{base}"\n')


def synthetic_lines(count: int = 150) -> list[str]:
    """Texts that differ from each other, a third of them spam with a word that gives it away."""
    rng = np.random.default_rng(0)
    words = "meet call home lunch see you later train ticket mum rain shop book".split()
    lines = []
    for number in range(count):
        text = " ".join(rng.choice(words, 6)) + f" {number}"
        lines.append(f"spam\twin prize {text}" if number % 3 == 0 else f"ham\t{text}")
    return lines
