"""Temperature scaling: one number that makes probabilities honest without changing a verdict.

Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

import math

import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

# A temperature outside this range says more about a tiny validation set than about the model.
_RANGE = (0.1, 10.0)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T for which softmax(logits / T) has the least cross-entropy.

    Args:
        logits: float (N, 2), of texts that the model was not trained on.
        labels: int64 (N,).

    Returns:
        T between 0.1 and 10; above 1 where the model was too sure of itself.
    """
    double = logits.double()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(double / math.exp(log_temperature), labels))

    low, high = (math.log(bound) for bound in _RANGE)
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)
