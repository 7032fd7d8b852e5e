"""What the base has learnt from a teacher, kept while it learns to tell spam from ham."""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.gpt2 import GPT2Model
from training.config import TrainingError
from training.features import Lesson, Lessons
from training.parallel import num_processes, rank

# Of a step, in all processes together: a third of what 32 texts have.
_TOKENS = 1000
# From these the map to what the teacher sees is found.
_FIRST_BATCHES = 60
_RIDGE = 10.0


class Distillation:
    """The mean square of what a network can no longer tell of what its teacher sees.

    A linear map from its states tells it: that of the least squares before the network learns
    anything else. It stays, and so must what it reads.
    """

    @torch.no_grad()
    def __init__(
        self, transformer: GPT2Model, lessons: Lessons, seed: int, device: torch.device
    ) -> None:
        """Finds the map.

        Args:
            transformer: as it is before training, on ``device``.
            lessons: what the teacher saw.
            seed: of the order in which texts are drawn; each process under torchrun has its own.
            device: where to compute.

        Raises:
            TrainingError: the network reads no texts as long as those of the lessons.
        """
        if lessons.most_tokens > transformer.config.n_positions:
            raise TrainingError(
                f"the teacher's file has texts of {lessons.most_tokens} tokens, the base reads "
                f"{transformer.config.n_positions} at most: make the file with a recipe "
                "of that n_positions."
            )
        self._device = device
        first = lessons.batches(_TOKENS, seed)
        pairs = [self._states(transformer, next(first)) for _ in range(_FIRST_BATCHES)]
        states, features = (torch.cat(part) for part in zip(*pairs, strict=True))
        with torch.autocast(device.type, enabled=False):  # squares need more digits
            extended = F.pad(states, (0, 1), value=1.0)  # (N, C + 1)
            gram = extended.T @ extended + _RIDGE * torch.eye(extended.shape[1], device=device)
            solved = torch.linalg.solve(gram, extended.T @ features)  # (C + 1, K)
        self._weight, self._bias = solved[:-1], solved[-1]
        of_own = _TOKENS // num_processes()
        self._batches = lessons.batches(of_own, seed + 1000 * (rank() + 1))

    def loss(self, transformer: GPT2Model) -> Tensor:
        """Of the next texts; 1 would be that of guessing means. Processes' losses add up to it."""
        states, features = self._states(transformer, next(self._batches))
        return F.mse_loss(states @ self._weight + self._bias, features) / num_processes()

    def _states(self, transformer: GPT2Model, lesson: Lesson) -> tuple[Tensor, Tensor]:
        lesson = lesson.to(self._device)
        return transformer(lesson.batch)[lesson.rows].float(), lesson.features
