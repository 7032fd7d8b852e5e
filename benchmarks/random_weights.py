"""A GPT-2 spam classifier of 124M random weights, for speed: what is computed costs the same."""

from pathlib import Path

import torch

from benchmarks.texts import load_texts
from model.checkpoint import save_classifier
from model.classifier import store_golden
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification, init_weights

_GOLDEN_MESSAGES = 16


def save_random_classifier(folder: Path) -> None:
    """Writes a checkpoint that transformers loads too, with golden messages, into a new folder."""
    folder.mkdir(parents=True)
    config = GPT2Config()
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(config)
    init_weights(model, config)
    save_classifier(folder, model.eval(), read_token="last")
    texts = load_texts()[0][:_GOLDEN_MESSAGES]
    store_golden(folder, texts)
