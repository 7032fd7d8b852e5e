"""A recipe and a corpus for training runs of a second."""

import numpy as np

TINY_RECIPE = """
base = "random"
n_layer = 2
n_head = 4
n_embd = 32
trained = "all"
precision = "float32"
epochs = 2
batch_size = 8
learning_rate = 3e-3
schedule = "cosine"
eval_every = 10
"""


def synthetic_lines(count: int = 150) -> list[str]:
    """Texts that differ from each other, a third of them spam with a word that gives it away."""
    rng = np.random.default_rng(0)
    words = "meet call home lunch see you later train ticket mum rain shop book".split()
    lines = []
    for number in range(count):
        text = " ".join(rng.choice(words, 6)) + f" {number}"
        lines.append(f"spam\twin prize {text}" if number % 3 == 0 else f"ham\t{text}")
    return lines
