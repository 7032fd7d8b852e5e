"""Texts read by a model in training as the service will read them: long ones in windows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from model.classifier import read_logits
from model.gpt2 import GPT2ForSequenceClassification
from model.ngrams import network_share
from model.prediction import EncodedText, Prediction
from model.windows import MAX_WINDOWS, encode_windows, read_in_windows

# Windows computed at once.
_AT_ONCE = 32
# After which there is a bar to look at.
_SECONDS_OF_PATIENCE = 5


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
        probabilities = _read(model, windows, device).softmax(-1).tolist()
        return [
            Prediction(ham, spam, len(window.token_ids))
            for (ham, spam), window in zip(probabilities, windows, strict=True)
        ]

    verdicts = read_in_windows(predict, texts, model.config.n_positions)
    return [verdict.spam_probability for verdict in verdicts]


@torch.inference_mode()
def read_worst_windows(
    model: GPT2ForSequenceClassification, texts: Sequence[str], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, 2) of each text's window that is likeliest spam, the number of its windows, and
    its ``network_shares``.

    Args: as for ``read_texts``. All tensors are on the CPU.
    """
    encoded = [encode_windows(text, model.config.n_positions, MAX_WINDOWS) for text in texts]
    logits = _read(model, [window for text in encoded for window in text.windows], device)
    sizes = [len(text.windows) for text in encoded]
    worst = [own[(own[:, 1] - own[:, 0]).argmax()] for own in torch.split(logits, sizes)]
    firsts = [text.windows[0] for text in encoded]
    shares = network_shares(model, [window.all_ids for window in firsts])
    return torch.stack(worst), torch.tensor(sizes), shares


def network_shares(model: GPT2ForSequenceClassification, texts: Sequence[Sequence[int]]) -> Tensor:
    """By what the network's log odds of each text are multiplied, (N,): 1 without a table."""
    return torch.tensor([1.0 if model.ngrams is None else network_share(text) for text in texts])


def _read(
    model: GPT2ForSequenceClassification, windows: Sequence[EncodedText], device: torch.device
) -> Tensor:
    """Logits (W, 2) of windows in float32 on the CPU, the table's log odds among them."""
    found = []
    bar = tqdm(
        total=sum(len(window.token_ids) for window in windows),
        unit=" tokens",
        unit_scale=True,
        desc="reading",
        delay=_SECONDS_OF_PATIENCE,
        leave=False,
    )
    with bar:
        for start in range(0, len(windows), _AT_ONCE):
            some = windows[start : start + _AT_ONCE]
            found.append(read_logits(model, some, device).cpu())
            bar.update(sum(len(window.token_ids) for window in some))
    return torch.cat(found)
