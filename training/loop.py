"""The training loop: batches in, the best snapshot out. Knows models and batches, no files."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from threading import Event
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from model import bf16
from model.gpt2 import GPT2ForSequenceClassification
from model.packing import within_budget
from training.bag_of_words import EvidenceHead
from training.command import noted_ctrl_c
from training.config import TrainConfig, TrainingError
from training.data import Batch, join
from training.distillation import Distillation
from training.history import AccuracyPoint, History, LossPoint
from training.optimizer import make_optimizers, parameter_groups, running_average, schedule
from training.parallel import (
    check_batch_size,
    is_first,
    num_processes,
    of_first,
    share_of,
    sum_gradients,
    sum_over_processes,
)
from training.sparse_rows import RowGradient

Verdicts = list[tuple[Tensor, Batch]]
"""Logits (B, 2) of batches, and the batches."""

# What is evaluated at once, where it is not one batch that is larger.
_EVALUATED_TOKENS = 2048


@dataclass
class Snapshot:
    """The trained tensors at the lowest loss over the whole validation set so far, or the last."""

    step: int = 0
    validation_loss: float = math.inf
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def offer(
        self, model: torch.nn.Module, step: int, validation_loss: float, always: bool = False
    ) -> bool:
        """Keeps a copy of the model's trained tensors if they are the best yet, or always.

        Returns whether it did.
        """
        if self.tensors and not always and validation_loss >= self.validation_loss:
            return False
        self.validation_loss = math.inf  # Ctrl-C may come while tensors of two steps are here
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name in self.tensors:  # no memory is taken anew
                self.tensors[name].copy_(parameter.detach())
            elif parameter.requires_grad:
                self.tensors[name] = parameter.detach().clone()
        self.step, self.validation_loss = step, validation_loss
        return True

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


class _OutOfPatience(Exception):
    """The validation loss has not fallen for as long as the recipe waits."""


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The forward pass's number format: bfloat16 where the recipe and the processor say so."""
    if chosen_precision(precision, device) == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def chosen_precision(precision: str, device: torch.device) -> str:
    """``float32`` or ``bfloat16``: what a recipe's precision comes to on this device.

    Raises:
        TrainingError: bfloat16 is asked for of a GPU that has no kernels for it.
    """
    if precision == "float32":
        return precision
    is_native = bf16.is_native(device)
    if precision == "bfloat16" and device.type == "cuda" and not is_native:
        raise TrainingError(
            "precision bfloat16 needs an NVIDIA GPU of compute capability 8.0 (Ampere) or later: "
            "write auto or float32 in the recipe."
        )
    return "bfloat16" if is_native or precision == "bfloat16" else "float32"


class Trainer:
    """One run of the loop: trains the unfrozen part and leaves the model at its best snapshot.

    Ctrl-C ends the training early, with what was best until then; before the first evaluation, with
    nothing.

    Args:
        model: on ``device``.
        train_loader: shuffled batches of one size.
        validation_loader: batches in a fixed order; they choose the snapshot.
        config: the recipe.
        device: where to compute.
        num_cached_blocks: blocks that the loaders' ``hidden`` has passed already.
        distillation: what is to be kept of the base, where the recipe says so.

    Raises:
        TrainingError: there is not one full batch.
    """

    def __init__(
        self,
        model: GPT2ForSequenceClassification,
        train_loader: DataLoader[Any],
        validation_loader: DataLoader[Any],
        config: TrainConfig,
        device: torch.device,
        num_cached_blocks: int = 0,
        distillation: Distillation | None = None,
    ) -> None:
        check_batch_size(config.batch_size, len(train_loader.dataset))  # type: ignore[arg-type]
        self.model = model
        self.train_loader = train_loader
        self.validation_loader = validation_loader
        self.config = config
        self.device = device
        self.num_cached_blocks = num_cached_blocks
        self.distillation = distillation
        # Of a last block whose input is kept, a few rows a step are computed: rounding its weights
        # anew each time takes longer than that in float32.
        few_rows = 0 < num_cached_blocks == model.config.n_layer - 1 and model.read == "last"
        self.precision = "float32" if few_rows and device.type == "cpu" else config.precision
        groups = parameter_groups(model, config)
        self.evidence_head: EvidenceHead | None = None
        if config.bag_of_words:
            self.evidence_head = EvidenceHead(model.config.n_embd).to(device)
            own = list(self.evidence_head.parameters())
            groups.append({"params": own, "lr": config.learning_rate})
        self.optimizers = make_optimizers(
            config.optimizer, model.transformer, groups, config.weight_decay
        )
        self.row_gradient = RowGradient.of(model.transformer.wte)
        total_steps = config.epochs * math.ceil(len(train_loader) / config.accumulation_steps)
        factor = schedule(config, total_steps)
        self.schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in self.optimizers
        ]
        self.average: AveragedModel | None = None
        if config.averaging:
            self.average = AveragedModel(model, multi_avg_fn=running_average(config.averaging))
        self.class_weights = torch.tensor([1.0, config.spam_weight], device=device)
        self.history = History()
        self.snapshot = Snapshot()
        self.passes = 0
        self.ctrl_c: Event | None = None
        self.evaluations_without_gain = 0
        self.bar = tqdm(
            total=config.epochs * len(train_loader) * config.batch_size,
            unit=" examples",
            smoothing=0.05,
            disable=not is_first(),
        )

    @property
    def examples_seen(self) -> int:
        return self.passes * self.config.batch_size

    @property
    def evaluated_model(self) -> GPT2ForSequenceClassification:
        """The running average where the recipe keeps one, else the model itself."""
        averaged = self.average and self.average.module
        return averaged if isinstance(averaged, GPT2ForSequenceClassification) else self.model

    def run(self) -> Outcome:
        """Trains to the end of the recipe.

        Raises:
            TrainingError: the loss is not finite any more.
            KeyboardInterrupt: Ctrl-C before the first evaluation.
        """
        start = time.monotonic()
        interrupted = False
        # Of several processes each says at every batch whether it came, and all stop after one.
        noting = noted_ctrl_c() if num_processes() > 1 else contextlib.nullcontext()
        with self.bar, noting as self.ctrl_c:
            try:
                for epoch in range(1, self.config.epochs):
                    self.run_epoch()
                    self.print_accuracies(epoch, *self.read_both(self.config.eval_batches))
                self.run_epoch()
                self.evaluate(ended_epoch=self.config.epochs)
            except _OutOfPatience:
                self.bar.write(f"no better for {self.config.patience} evaluations: stopping")
            except KeyboardInterrupt:
                if not self.snapshot.tensors:
                    raise
                interrupted = True
                kept = self.config.snapshot
                self.bar.write(f"interrupted: evaluating once more, keeping the {kept} snapshot")
                # Epochs may have passed since the last one.
                with contextlib.suppress(TrainingError, _OutOfPatience):
                    self.evaluate()
        seconds = time.monotonic() - start
        self.snapshot.restore(self.model)
        rate = self.examples_seen / seconds
        return Outcome(self.history, self.snapshot, seconds, rate, interrupted)

    def run_epoch(self) -> None:
        """Reads the training part once, with a step every ``accumulation_steps`` batches."""
        for number, batch in enumerate(self.train_loader, start=1):
            loss = self.training_loss(batch)
            is_noted = loss.new_tensor(float(bool(self.ctrl_c and self.ctrl_c.is_set())))
            told = sum_over_processes(torch.stack([loss.detach(), is_noted]))
            value, is_noted_by = told.tolist()
            self.passes += 1
            self.check(value, "loss")
            (loss / self.config.accumulation_steps).backward()  # type: ignore[no-untyped-call]
            if number % self.config.accumulation_steps == 0 or number == len(self.train_loader):
                self.step()
            self.bar.update(self.config.batch_size)
            self.bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            if is_noted_by:
                raise KeyboardInterrupt
            if (self.passes - 1) % self.config.eval_every == 0:  # the book's steps 0, 50, ...
                self.evaluate()

    def check(self, loss: float, name: str) -> None:
        """Ends the run, by a ``TrainingError``, where a loss is no number."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"the {name} is {loss} at step {self.passes}: lower learning_rate, or look at "
                "the data. Nothing of this training was saved."
            )

    def step(self) -> None:
        """Moves the weights, then the rates and the running average."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        sum_gradients(p for group in groups for p in group["params"])
        if self.row_gradient:
            self.row_gradient.make_dense()
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        if self.average:
            self.average.update_parameters(self.model)

    def evaluate(self, ended_epoch: int | None = None) -> None:
        """Prints both losses and keeps a snapshot where the validation loss is the lowest yet.

        Of the epoch that has just ended, if any, it prints the accuracies too.
        """
        train, validation = self.read_both(None)
        if ended_epoch:
            self.print_accuracies(ended_epoch, train, validation[: self.config.eval_batches])
        train_loss = float(np.mean([self.loss(*pair).item() for pair in train]))
        losses = [self.loss(*pair).item() for pair in validation]
        validation_loss = float(np.mean(losses[: self.config.eval_batches]))
        weights = [self.weight(batch).item() for _, batch in validation]
        whole = float(np.average(losses, weights=weights))
        self.check(whole, "validation loss")
        epoch = self.passes / len(self.train_loader)
        self.history.losses.append(
            LossPoint(self.passes, epoch, self.examples_seen, train_loss, validation_loss, whole)
        )
        always = self.config.snapshot == "last"
        is_kept = self.snapshot.offer(self.evaluated_model, self.passes, of_first(whole), always)
        self.bar.write(
            f"epoch {epoch:5.2f}  step {self.passes:6d}  train loss {train_loss:.3f}  "
            f"validation loss {validation_loss:.3f}, of all texts {whole:.3f}"
        )
        if is_kept:
            self.evaluations_without_gain = 0
            return
        self.evaluations_without_gain += 1
        if self.evaluations_without_gain == self.config.patience:
            raise _OutOfPatience

    def print_accuracies(self, epoch: int, train: Verdicts, validation: Verdicts) -> None:
        """Prints and keeps them, at the end of an epoch as the book does."""
        of_train, of_validation = _accuracy(train), _accuracy(validation)
        self.history.accuracies.append(
            AccuracyPoint(epoch, self.examples_seen, of_train, of_validation)
        )
        self.bar.write(
            f"epoch {epoch} ends  train accuracy {of_train:.2%}  "
            f"validation accuracy {of_validation:.2%}"
        )

    def read_both(self, num_validation_batches: int | None) -> tuple[Verdicts, Verdicts]:
        """The first batches of the training part, and so many, or all, of the validation part."""
        first = self.config.eval_batches
        parts = (self.train_loader, first), (self.validation_loader, num_validation_batches)
        # One part after the other: what the loaders draw at random, the book's draw in that order.
        batches = chain.from_iterable(islice(loader, number) for loader, number in parts)
        verdicts = list(self.read(batches))
        of_train = min(first, len(self.train_loader))
        return verdicts[:of_train], verdicts[of_train:]

    @torch.no_grad()
    def read(self, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Batch]]:
        """Logits (B, 2) of each batch; several batches are computed at once."""
        with autocast(self.precision, self.device):  # rounds the weights once for all
            for group in within_budget(batches, lambda b: b.packed.num_tokens, _EVALUATED_TOKENS):
                logits = self.logits(self.evaluated_model, join(group))
                sizes = [len(batch.labels) for batch in group]
                yield from zip(torch.split(logits, sizes), group, strict=True)

    def logits(self, model: GPT2ForSequenceClassification, batch: Batch) -> Tensor:
        """Of each text, float32 (B, 2) on the device."""
        hidden = None if batch.hidden is None else batch.hidden.to(self.device)
        with autocast(self.precision, self.device):
            logits: Tensor = model(batch.packed.to(self.device), hidden, self.num_cached_blocks)
        return logits.float()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch, in nats, each text by the weight of its label."""
        return F.cross_entropy(
            logits,
            batch.labels.to(self.device),
            weight=self.class_weights,
            ignore_index=self.config.ignore_index,
            label_smoothing=self.config.label_smoothing,
        )

    def training_loss(self, batch: Batch) -> Tensor:
        """This process's part of a batch's mean loss; the parts of all processes add up to it."""
        share = share_of(batch)
        if self.config.prefix_loss:
            loss = self.loss_everywhere(share) * (len(share.labels) / len(batch.labels))
            if self.distillation:
                with autocast(self.precision, self.device):
                    kept = self.distillation.loss(self.model.transformer)
                loss = loss + self.config.distillation * kept
            return loss
        loss = self.loss(self.logits(self.model, share), share)
        return loss * (self.weight(share) / self.weight(batch))

    def weight(self, batch: Batch) -> Tensor:
        """What the batch's texts weigh together in a mean loss."""
        counted = batch.labels[batch.labels != self.config.ignore_index]
        return self.class_weights[counted.to(self.device)].sum()

    def loss_everywhere(self, batch: Batch) -> Tensor:
        """The recipe's mixture of the losses at every token, at the last, and of the evidence."""
        packed = batch.packed.to(self.device)
        lengths = torch.tensor(packed.lengths, device=self.device)
        with autocast(self.precision, self.device):
            states = self.model.transformer(packed)  # (T, C)
            logits = self.model.score(states).float()  # (T, 2)
        losses = F.cross_entropy(
            logits,
            batch.token_labels.to(self.device),
            weight=self.class_weights,
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )  # (T,)
        # Each text weighs the same, however long.
        of_tokens = lengths.repeat_interleave(lengths, output_size=packed.num_tokens)
        everywhere = (losses / of_tokens).sum() / len(lengths)
        share = self.config.prefix_loss
        loss = share * everywhere + (1 - share) * losses[packed.last_rows].mean()
        if self.evidence_head and batch.log_odds is not None:
            missed = self.evidence_head.loss(states, batch.log_odds.to(self.device))
            loss = loss + self.config.bag_of_words * missed / len(lengths)
        return loss


def _accuracy(verdicts: Verdicts) -> float:
    right = [logits.argmax(-1).cpu() == batch.labels for logits, batch in verdicts]
    return torch.cat(right).float().mean().item()
