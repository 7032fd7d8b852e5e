"""Calibration: two numbers that make probabilities honest, fitted on texts of the natural mix.

The temperature says how sure the model may be; the shift corrects all verdicts where training saw
another share of spam than there is.
Sources: Platt, "Probabilistic Outputs for Support Vector Machines", 1999; Guo et al., "On
Calibration of Modern Neural Networks", 2017.
"""

import math

import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from model.gpt2 import GPT2ForSequenceClassification
from model.ngrams import NgramTable
from training.config import TrainConfig
from training.data import Splits

# Numbers outside these ranges say more about a tiny validation set than about the model.
_MOST_LOG_TEMPERATURE = math.log(10.0)
_MOST_SHIFT = 3.0


def fit_calibration(
    logits: Tensor,
    labels: Tensor,
    num_windows: Tensor | None = None,
    shares: Tensor | None = None,
) -> tuple[float, float]:
    """The likeliest temperature T and shift b of ``calibrated``, where log T and b are standard
    normal before any text is seen.

    Some hundred texts outweigh that; of a few that a model tells apart, the least cross-entropy
    would be that of certainty, with any shift.

    Args:
        logits: float (N, 2), of texts that the model was not trained on; of each text's worst
            window, where it is read in several.
        labels: int64 (N,).
        num_windows: int64 (N,), by how many a text's odds are divided once they are calibrated, as
            ``join_predictions`` does; None where each is read at once.
        shares: float (N,), as ``network_shares`` tells them; None where all are 1.

    Returns:
        T between 0.1 and 10, above 1 where the model was too sure of itself; b between -3 and 3,
        below 0 where it called spam too often.
    """
    double = logits.double()
    joined = torch.zeros_like(double)
    shares = double.new_ones(len(double)) if shares is None else shares.double()
    if num_windows is not None:
        joined[:, 0] = num_windows.log()

    def loss(numbers: tuple[float, float]) -> float:
        log_temperature, shift = numbers
        found = calibrated(double, math.exp(log_temperature), shift, shares) + joined
        cross_entropy = float(F.cross_entropy(found, labels, reduction="sum"))
        return cross_entropy + (log_temperature**2 + shift**2) / 2

    bounds = [(-bound, bound) for bound in (_MOST_LOG_TEMPERATURE, _MOST_SHIFT)]
    log_temperature, shift = minimize(loss, (0.0, 0.0), bounds=bounds, method="L-BFGS-B").x
    return math.exp(log_temperature), float(shift)


def assumed_spam_prior(config: TrainConfig, splits: Splits) -> dict[str, float]:
    """The share of spam that a run's verdicts assume, as ``spam_prior``; nothing if not known.

    It is that of the validation part if they were calibrated on it, else that of the training part
    if they were learnt from nothing else, each text of the same weight: a head that is kept assumes
    another share, and a network and a table beside it each bring theirs.
    """
    besides = config.training_only or config.table_only or config.replay
    if config.calibrate:
        part = splits.validation
    elif config.spam_weight != 1 or besides or config.keep_head or config.ngrams:
        return {}
    else:
        part = splits.train
    return {"spam_prior": sum(example.label for example in part) / len(part)}


def calibrated(logits: Tensor, temperature: float, shift: float, shares: Tensor) -> Tensor:
    """Logits (N, 2) divided by the temperature, then the shift times ``shares`` (N,) added to those
    of spam: the head holds it, and what the head says is scaled so."""
    return logits / temperature + F.pad(shift * shares[:, None], (1, 0))


@torch.no_grad()
def calibrate_head(model: GPT2ForSequenceClassification, temperature: float, shift: float) -> None:
    """Makes a classifier give calibrated logits, in place; its head, without a bias, gets one."""
    head = model.score
    head.weight.div_(temperature)
    if model.ngrams is not None:
        model.ngrams = NgramTable(model.ngrams.weight / temperature)
    head.bias = torch.nn.Parameter(head.weight.new_tensor([0.0, shift]))
