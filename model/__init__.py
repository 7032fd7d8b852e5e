"""Text to verdict: GPT-2, its tokenizer, its checkpoints. Knows nothing of HTTP or training."""
