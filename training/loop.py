"""The training loop: batches in, the best snapshot out. Knows models and batches, no files."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from model.gpt2 import GPT2ForSequenceClassification
from training.config import TrainConfig, TrainingError
from training.data import Batch


@dataclass(frozen=True)
class LossPoint:
    """Mean losses on the first batches of two sets, after ``step`` steps."""

    step: int
    epoch: float
    examples: int
    train_loss: float
    validation_loss: float


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


@dataclass
class Snapshot:
    """The trained tensors at the lowest loss over the whole validation set so far."""

    step: int = 0
    validation_loss: float = math.inf
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, model: torch.nn.Module, step: int, validation_loss: float) -> None:
        """Keeps a copy of the model's trained tensors if they are the best yet."""
        if validation_loss < self.validation_loss or not self.tensors:
            self.step, self.validation_loss = step, validation_loss
            self.tensors = {
                name: parameter.detach().clone()
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
            }

    def restore(self, model: torch.nn.Module) -> None:
        """Puts the kept tensors back."""
        model.load_state_dict(self.tensors, strict=False)


@dataclass
class Outcome:
    """How a run went. ``interrupted``: stopped by Ctrl-C before its last step."""

    history: History
    snapshot: Snapshot
    seconds: float
    examples_per_second: float
    interrupted: bool


def train(
    model: GPT2ForSequenceClassification,
    train_loader: DataLoader[Any],
    validation_loader: DataLoader[Any],
    config: TrainConfig,
    device: torch.device,
    num_cached_blocks: int = 0,
) -> Outcome:
    """Trains the unfrozen part and leaves the model at its best snapshot.

    Ctrl-C ends the training early, with what was best until then.

    Args:
        model: on ``device``.
        train_loader: shuffled batches of one size.
        validation_loader: batches in a fixed order; they choose the snapshot.
        config: the recipe.
        device: where to compute.
        num_cached_blocks: blocks that the loaders' ``hidden`` has passed already.

    Raises:
        TrainingError: the loss is not finite any more, or there is not one full batch.
    """
    return _Trainer(model, train_loader, validation_loader, config, device, num_cached_blocks).run()


class _Trainer:
    """The state of one run: what ``train`` would otherwise pass from function to function."""

    def __init__(
        self,
        model: GPT2ForSequenceClassification,
        train_loader: DataLoader[Any],
        validation_loader: DataLoader[Any],
        config: TrainConfig,
        device: torch.device,
        num_cached_blocks: int,
    ) -> None:
        if len(train_loader) == 0:
            raise TrainingError(f"fewer training texts than one batch of {config.batch_size}.")
        self.model = model
        self.train_loader = train_loader
        self.validation_loader = validation_loader
        self.config = config
        self.device = device
        self.num_cached_blocks = num_cached_blocks
        self.total_steps = config.epochs * len(train_loader)
        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, _schedule(config, self.total_steps)
        )
        self.history = History()
        self.snapshot = Snapshot()
        self.steps_done = 0
        self.bar = tqdm(
            total=self.total_steps * config.batch_size, unit=" examples", smoothing=0.05
        )

    @property
    def examples_seen(self) -> int:
        return self.steps_done * self.config.batch_size

    def run(self) -> Outcome:
        start = time.monotonic()
        interrupted = False
        with self.bar:
            try:
                for epoch in range(1, self.config.epochs + 1):
                    self.run_epoch()
                    self.print_accuracies(epoch)
                self.evaluate()
            except KeyboardInterrupt:
                interrupted = True
                self.bar.write("interrupted: keeping the best snapshot so far")
        seconds = time.monotonic() - start
        if not self.snapshot.tensors:  # interrupted before the first evaluation
            self.snapshot.offer(self.model, self.steps_done, math.inf)
        self.snapshot.restore(self.model)
        rate = self.examples_seen / seconds
        return Outcome(self.history, self.snapshot, seconds, rate, interrupted)

    def run_epoch(self) -> None:
        for batch in self.train_loader:
            loss = self.loss(batch)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.scheduler.step()
            self.steps_done += 1
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} at step {self.steps_done}: lower learning_rate, or look "
                    "at the data. Nothing was saved."
                )
            self.bar.update(self.config.batch_size)
            self.bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            if (self.steps_done - 1) % self.config.eval_every == 0:  # the book's steps 0, 50, ...
                self.evaluate()

    def evaluate(self) -> None:
        """Prints both losses and keeps a snapshot where the validation loss is the lowest yet."""
        train_loss = self.mean_loss(islice(self.train_loader, self.config.eval_batches))[0]
        validation_loss, whole = self.mean_loss(self.validation_loader)
        epoch = self.steps_done / len(self.train_loader)
        self.history.losses.append(
            LossPoint(self.steps_done, epoch, self.examples_seen, train_loss, validation_loss)
        )
        self.snapshot.offer(self.model, self.steps_done, whole)
        self.bar.write(
            f"epoch {epoch:5.2f}  step {self.steps_done:6d}  train loss {train_loss:.3f}  "
            f"validation loss {validation_loss:.3f}"
        )

    def print_accuracies(self, epoch: int) -> None:
        of_train, of_validation = (
            self.accuracy(islice(loader, self.config.eval_batches))
            for loader in (self.train_loader, self.validation_loader)
        )
        self.history.accuracies.append(
            AccuracyPoint(epoch, self.examples_seen, of_train, of_validation)
        )
        self.bar.write(
            f"epoch {epoch} ends  train accuracy {of_train:.2%}  "
            f"validation accuracy {of_validation:.2%}"
        )

    def logits(self, batch: Batch) -> Tensor:
        hidden = None if batch.hidden is None else batch.hidden.to(self.device)
        logits: Tensor = self.model(batch.packed.to(self.device), hidden, self.num_cached_blocks)
        return logits

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.logits(batch), batch.labels.to(self.device))

    @torch.no_grad()
    def mean_loss(self, batches: Iterable[Batch]) -> tuple[float, float]:
        """The mean of the first batches' losses, as the book prints it, and that over all texts."""
        losses, sizes = [], []
        for batch in batches:
            losses.append(self.loss(batch).item())
            sizes.append(len(batch.labels))
        first = losses[: self.config.eval_batches]
        weighted = sum(loss * size for loss, size in zip(losses, sizes, strict=True))
        return sum(first) / len(first), weighted / sum(sizes)

    @torch.no_grad()
    def accuracy(self, batches: Iterable[Batch]) -> float:
        """Share of right verdicts."""
        right = total = 0
        for batch in batches:
            right += int((self.logits(batch).argmax(-1).cpu() == batch.labels).sum())
            total += len(batch.labels)
        return right / total


def _schedule(config: TrainConfig, total_steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at each step."""
    if config.schedule == "constant":
        return lambda step: 1.0
    warmup = max(1, int(config.warmup_fraction * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor
