"""Texts read by a model in training as the service will read them: long ones in windows."""

from collections.abc import Sequence

import torch

from model.classifier import EncodedText, Prediction
from model.gpt2 import GPT2ForSequenceClassification
from model.ngrams import add_ngrams
from model.packing import pack
from model.windows import read_in_windows
from training.config import TrainConfig

# Windows computed at once.
_AT_ONCE = 32


def is_served(config: TrainConfig) -> bool:
    """Whether the service takes what this recipe makes, and so reads its texts in windows."""
    return config.padding == "none" and config.read_token == "last" and config.causal_mask


@torch.inference_mode()
def read_texts(
    model: GPT2ForSequenceClassification, texts: Sequence[str], device: torch.device
) -> list[float]:
    """P(spam) of each text, in the order of the texts; in float32, if not under autocast.

    Args:
        model: on ``device``; reads the last token.
        texts: any strings, of any length.
        device: where to compute.
    """

    def predict(windows: Sequence[EncodedText]) -> list[Prediction]:
        probabilities: list[list[float]] = []
        for start in range(0, len(windows), _AT_ONCE):
            some = windows[start : start + _AT_ONCE]
            packed = pack([window.token_ids for window in some]).to(device)
            wholes = [window.whole or window.token_ids for window in some]
            logits = add_ngrams(model(packed), model.ngrams, wholes)
            probabilities += logits.softmax(-1).tolist()
        return [
            Prediction(ham, spam, len(window.token_ids), window.truncated)
            for (ham, spam), window in zip(probabilities, windows, strict=True)
        ]

    verdicts = read_in_windows(predict, texts, model.config.n_positions)
    return [verdict.spam_probability for verdict in verdicts]
