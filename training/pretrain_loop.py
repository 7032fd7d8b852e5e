"""The pretraining loop: windows of tokens in, a language model out, stopped and resumed at will."""

import dataclasses
import math
import shutil
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from model.checkpoint import load_language_model, save_language_model
from model.folders import CheckpointError, new_folder, read_json, write_json
from model.gpt2 import GPT2Config, GPT2LMHeadModel, init_weights
from model.packing import PackedBatch, pack
from model.published import write_tensors
from training.command import noted_ctrl_c
from training.config import TrainingError
from training.documents import TextSplit, Window, batches, count_guesses
from training.features import Lessons
from training.generate import sample
from training.loop import autocast
from training.memory import keep_freed_memory
from training.optimizer import make_optimizers, warmup_then_cosine
from training.output_layer import SampledSoftmax, chunked_cross_entropy, token_frequencies
from training.parallel import (
    check_batch_tokens,
    is_first,
    mean_over_processes,
    share_of_windows,
    sum_gradients,
    sum_over_processes,
)
from training.pretrain_config import PretrainConfig
from training.sparse_rows import RowGradient

_ADAMW_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_MUON_MOMENTS = ("momentum_buffer",)


@dataclasses.dataclass(frozen=True)
class LanguagePoint:
    """Where a run stood after ``step`` steps; losses in nats a token."""

    step: int
    seconds: float
    train_loss: float
    held_back_loss: float
    samples: list[str]


class Pretrainer:
    """A language model, its optimizer and how far they are; ``run`` goes on from there.

    Order of texts, drawn tokens and samples depend on seed and step alone, so a run that was
    stopped and resumed gives the same weights as one that was not.
    """

    def __init__(
        self,
        config: PretrainConfig,
        texts: TextSplit,
        device: torch.device,
        lessons: Lessons | None = None,
    ) -> None:
        """Makes or reads the model.

        Args:
            config: the recipe.
            texts: what is read.
            device: where to compute.
            lessons: what a teacher saw in these texts, where the recipe distils.

        Raises:
            CheckpointError: the base cannot be used.
            TrainingError: the recipe's texts may be longer than the base takes, or its batches are
                too small for so many processes.
        """
        check_batch_tokens(config.batch_tokens, config.n_positions)
        self.config = config
        self.lessons = lessons
        self.texts = texts
        self.device = device
        self.steps_done = 0
        self.seconds = 0.0
        self.history: list[LanguagePoint] = []
        self.losses: list[float] = []  # of the steps since the last evaluation
        if self.device.type == "cpu":
            keep_freed_memory(large_pages=True)
        torch.manual_seed(config.seed)
        model = load_language_model(config.base) if config.base else random_model(config)
        if config.n_positions > model.config.n_positions:
            raise TrainingError(
                f"n_positions is {config.n_positions}, {config.base} takes at most "
                f"{model.config.n_positions}: write that, or less, in the recipe."
            )
        pupil = torch.nn.Linear(model.config.n_embd, lessons.components) if lessons else None
        self._adopt(model, pupil)
        self._sampled = None
        if config.output_layer != "exact":
            frequencies = token_frequencies(config.output_layer, texts.counts())
            self._sampled = SampledSoftmax(frequencies, config.sampled_tokens, config.seed)

    def run(self, save_to: Path | None = None) -> bool:
        """Trains to the last step; Ctrl-C stops after the current one and saves.

        Args:
            save_to: folder for ``step-N`` folders at each evaluation; only the newest is kept. Of
                several processes the first saves.

        Returns:
            Whether the last step was reached.

        Raises:
            TrainingError: the loss is not finite any more.
        """
        windows = batches(self.texts.train, self.config.batch_tokens, self.config.seed)
        started = time.monotonic() - self.seconds
        bar = tqdm(
            total=self.config.steps,
            initial=self.steps_done,
            unit=" steps",
            disable=not is_first(),
        )
        with bar, noted_ctrl_c() as noted:
            for batch in islice(windows, self.steps_done, self.config.steps):
                self.losses.append(self.step(batch))
                self.seconds = time.monotonic() - started
                bar.update()
                bar.set_postfix(loss=f"{self.losses[-1]:.3f}", refresh=False)
                if self.steps_done % self.config.eval_every == 0 or self._is_done:
                    self.evaluate(float(np.mean(self.losses)))
                    self.losses.clear()
                    bar.write(_describe(self.history[-1]))
                    self._save_newest(save_to)
                # Told between two steps, or processes would stop after different ones.
                if sum_over_processes(torch.tensor(int(noted.is_set()), device=self.device)):
                    self._save_newest(save_to)
                    break
        return self._is_done

    def step(self, windows: list[Window]) -> float:
        """One optimizer step; returns its loss, an estimate where the output layer is sampled."""
        own = share_of_windows(windows)
        batch, targets = self._tensors(own)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate() * group["factor"]
        with autocast(self.config.precision, self.device):
            hidden = self.model.transformer(batch)  # (T, C)
            loss = self.loss(hidden, targets) * (len(targets) / count_guesses(windows))
            if self.pupil:
                missed = self.lessons_loss(hidden, own)
                share = self._num_lessons(own) / max(1, self._num_lessons(windows))
                loss = loss + self.config.distillation * missed * share
        loss.backward()  # type: ignore[no-untyped-call]
        sum_gradients(p for _, p in self._named_parameters())
        if self._row_gradient:
            self._row_gradient.make_dense()
        torch.nn.utils.clip_grad_norm_([p for _, p in self._named_parameters()], 1.0)
        value = sum_over_processes(loss.detach()).item()
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.steps_done}: lower the rate.")
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps_done += 1
        return value

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean next-token loss of states (T, C) as the recipe's output layer computes it."""
        weight = self.model.transformer.wte.weight
        if self._sampled:
            return self._sampled(hidden, weight, targets, self.steps_done)
        return chunked_cross_entropy(hidden, weight, targets)

    def lessons_loss(self, hidden: Tensor, windows: list[Window]) -> Tensor:
        """Mean square of what the pupil gets wrong of what the teacher saw; 1 for guessing means.

        Args:
            hidden: (T, C), of the batch of these windows.
            windows: the batch.
        """
        assert self.pupil
        rows, features = self._seen_by_teacher(windows)
        missed = F.mse_loss(self.pupil(hidden[rows]).float(), features, reduction="sum")
        return missed / max(1, features.numel())  # a batch of empty texts has no such token

    def _num_lessons(self, windows: list[Window]) -> int:
        assert self.lessons
        return sum(len(self.lessons.of(window)[0]) for window in windows)

    def _seen_by_teacher(self, windows: list[Window]) -> tuple[Tensor, Tensor]:
        """Rows of the batch, int64 (P,), and what the teacher saw there, (P, K)."""
        assert self.lessons
        starts = np.cumsum([0, *(len(window) - 1 for window in windows)])
        seen = [self.lessons.of(window) for window in windows]
        rows = [int(start) + places for start, (places, _) in zip(starts, seen, strict=False)]
        features = torch.cat([features for _, features in seen])
        return torch.cat(rows).to(self.device), features.to(self.device)

    def learning_rate(self) -> float:
        """Of the next step: up in a line, down along half a cosine."""
        steps, warmup = self.config.steps, self.config.warmup_fraction
        return self.config.learning_rate * warmup_then_cosine(self.steps_done, steps, warmup)

    def evaluate(self, train_loss: float) -> None:
        """Adds held-back loss and samples to the history."""
        loss = self.held_back_loss(self.spread_held_back())
        config = self.config
        samples = sample(self.model, config.prompts, config.sample_tokens, config.seed)
        seconds = round(self.seconds, 1)
        point = LanguagePoint(self.steps_done, seconds, train_loss, loss, samples)
        self.history.append(point)

    @torch.no_grad()
    def held_back_loss(self, windows: Iterable[Window]) -> float:
        """Exact mean loss over all tokens of these windows, in nats a token."""
        weight = self.model.transformer.wte.weight

        def read(part: list[Window]) -> tuple[float, int]:
            batch, targets = self._tensors(part)
            loss = chunked_cross_entropy(self.model.transformer(batch), weight, targets)
            return loss.item(), len(targets)

        whole = batches(list(windows), self.config.batch_tokens, seed=None)
        with autocast(self.config.precision, self.device):
            return mean_over_processes(read, whole, self.device)

    @torch.no_grad()
    def held_back_lessons(self) -> float | None:
        """Share of the variance of what the teacher saw in all held-back windows left unlearnt."""
        if not self.pupil:
            return None

        def read(part: list[Window]) -> tuple[float, int]:
            missed = self.lessons_loss(self.model.transformer(self._tensors(part)[0]), part)
            return missed.item(), self._num_lessons(part)

        whole = batches(self.texts.every_held_back, self.config.batch_tokens, seed=None)
        with autocast(self.config.precision, self.device):
            return mean_over_processes(read, whole, self.device)

    def save(self, folder: Path) -> None:
        """Writes all that ``restore`` needs into a new folder; it is a base for ``finetune``, too.

        Raises:
            CheckpointError: the folder exists, or cannot be written.
        """
        tensors = {
            f"{name}.{moment}": tensor
            for name, parameter in self._named_parameters()
            for moment, tensor in self._optimizer_of[parameter].state[parameter].items()
        }
        if self.pupil:
            tensors |= {f"pupil.{name}": p.detach() for name, p in self.pupil.named_parameters()}
        state = {
            "recipe": self.config.model_dump(mode="json"),
            "texts": self.texts.sha256,
            "teacher": self.lessons and self.lessons.sha256,
            "steps_done": self.steps_done,
            "seconds": self.seconds,
            "history": [dataclasses.asdict(point) for point in self.history],
            "losses": self.losses,
        }
        with new_folder(folder) as partial:
            save_language_model(partial, self.model)
            write_tensors(tensors, partial / "optimizer.safetensors")
            write_json(partial / "state.json", state)

    def restore(self, folder: Path) -> None:
        """Goes back to where ``save`` was called.

        Raises:
            CheckpointError: files missing or damaged, or of another recipe, texts or teacher.
        """
        try:
            state = read_json(folder / "state.json")
            tensors = load_file(folder / "optimizer.safetensors")
            if state["recipe"] != self.config.model_dump(mode="json"):
                raise CheckpointError(
                    f"{folder} is of another recipe: go on with that, or give another --out."
                )
            if state["texts"] != self.texts.sha256:
                raise CheckpointError(
                    f"{folder} learns from other texts: give the same --data, or another --out."
                )
            if state.get("teacher", own := self.lessons and self.lessons.sha256) != own:
                raise CheckpointError(f"{folder} learnt from another --teacher: give that one.")
            self._adopt(load_language_model(folder), self.pupil)
            if self.pupil:
                names = self.pupil.state_dict()
                self.pupil.load_state_dict({name: tensors[f"pupil.{name}"] for name in names})
            for name, parameter in self._named_parameters():
                optimizer = self._optimizer_of[parameter]
                is_muon = isinstance(optimizer, torch.optim.Muon)
                optimizer.state[parameter] = {
                    m: tensors[f"{name}.{m}"].to(self.device)
                    for m in (_MUON_MOMENTS if is_muon else _ADAMW_MOMENTS)
                }
            self.steps_done, self.seconds = state["steps_done"], state["seconds"]
            self.history = [LanguagePoint(**point) for point in state["history"]]
            self.losses = state.get("losses", [])
        except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"cannot go on from {folder}: {error!r}.") from error

    @property
    def _is_done(self) -> bool:
        return self.steps_done == self.config.steps

    def _named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        yield from self.model.named_parameters()
        if self.pupil:
            yield from self.pupil.named_parameters(prefix="pupil")

    def _adopt(self, model: GPT2LMHeadModel, pupil: torch.nn.Linear | None) -> None:
        self.model = model.to(self.device)
        self.pupil = pupil.to(self.device) if pupil else None
        embeddings = self.model.transformer.wte.weight
        others = [p for _, p in self._named_parameters() if p is not embeddings]
        matrices, vectors = ([p for p in others if (p.ndim > 1) is wide] for wide in (True, False))
        decay = self.config.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": [embeddings], "weight_decay": decay, "factor": self.config.embedding_rate},
            {"params": matrices, "weight_decay": decay, "factor": 1.0},
            {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
        ]
        self.optimizers = make_optimizers(
            self.config.optimizer, self.model.transformer, groups, decay, betas=(0.9, 0.95)
        )
        is_sampled = self.config.output_layer != "exact"
        self._row_gradient = RowGradient.of(self.model.transformer.wte) if is_sampled else None
        self._optimizer_of = {
            parameter: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    def _tensors(self, windows: list[Window]) -> tuple[PackedBatch, Tensor]:
        batch = pack([window[:-1] for window in windows])
        targets = torch.tensor([token for window in windows for token in window[1:]])
        return batch.to(self.device), targets.to(self.device)

    def spread_held_back(self) -> Iterator[Window]:
        """Some windows of every source, ``eval_tokens`` together, always the same."""
        every = self.texts.every_held_back
        left = self.config.eval_tokens
        for number in np.random.default_rng(self.config.seed).permutation(len(every)).tolist():
            yield every[number]
            left -= len(every[number]) - 1
            if left <= 0:
                return

    def _save_newest(self, save_to: Path | None) -> None:
        if save_to is None or not is_first():
            return
        newest = save_to / f"step-{self.steps_done:07d}"
        if not newest.exists():
            self.save(newest)
        for older in saved_steps(save_to)[:-1]:
            shutil.rmtree(older)


def random_model(config: PretrainConfig) -> GPT2LMHeadModel:
    """A network of the recipe's sizes with fresh weights, from torch's global generator."""
    sizes = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd")}
    gpt2 = GPT2Config(**sizes, n_positions=config.n_positions)
    model = GPT2LMHeadModel(gpt2)
    init_weights(model, gpt2)
    return model


def saved_steps(folder: Path) -> list[Path]:
    """The ``step-N`` folders that a run left, the newest last."""
    return sorted(folder.glob("step-*"))


def _describe(point: LanguagePoint) -> str:
    losses = (
        f"step {point.step:6d}  {point.seconds:6.0f} s  train loss {point.train_loss:.3f}  "
        f"held-back loss {point.held_back_loss:.3f}"
    )
    return "\n".join([losses, *(f"  > {sample!r}" for sample in point.samples)])
