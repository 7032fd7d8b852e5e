"""What a run prints on its way: losses and accuracies, for its plots and its report."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LossPoint:
    """Mean losses on the first batches of two sets, after ``step`` forward passes.

    ``whole_validation_loss`` is that over all validation texts, which chooses the snapshot; unknown
    of runs from before it was kept.
    """

    step: int
    epoch: float
    examples: int
    train_loss: float
    validation_loss: float
    whole_validation_loss: float = math.nan


@dataclass(frozen=True)
class AccuracyPoint:
    """Shares of right verdicts on the first batches of two sets, after ``epoch`` epochs."""

    epoch: int
    examples: int
    train_accuracy: float
    validation_accuracy: float


@dataclass
class History:
    """What a run printed on its way, in order."""

    losses: list[LossPoint] = field(default_factory=list)
    accuracies: list[AccuracyPoint] = field(default_factory=list)
