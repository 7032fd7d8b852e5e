"""The book's training loop, written plainly: the yardstick of ``benchmarks.training``.

Every text padded to one length, attention as matrix products under a triangular mask, every block
computed in every epoch and evaluation, for every token. Reads the last real token, so that its
losses can be compared with ours to rounding.
"""

import contextlib
import math
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from model.checkpoint import load_base
from model.gpt2 import Block, GPT2Config, GPT2Model
from model.tokenizer import ENDOFTEXT
from training.config import TrainConfig
from training.data import Splits, TokenizedExample, tokenize


class PaddedBlock(nn.Module):
    """One block on a padded batch (B, L, C), with the parameters of a block of ours."""

    def __init__(self, config: GPT2Config, block: Block) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.block = block
        self.mask = torch.ones(config.n_positions, config.n_positions, dtype=torch.bool).triu(1)

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        B, L, C = x.shape
        q, k, v = (
            t.view(B, L, self.n_head, -1).transpose(1, 2)
            for t in block.attn.c_attn(block.ln_1(x)).chunk(3, dim=-1)
        )  # (B, H, L, D)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(self.mask[:L, :L], -torch.inf).softmax(-1)
        attended = (weights @ v).transpose(1, 2).reshape(B, L, C)
        x = x + block.attn.c_proj(attended)
        out: Tensor = x + block.mlp(block.ln_2(x))
        return out


class PaddedClassifier(nn.Module):
    """The book's classifier: logits (B, L, 2) at every position of padded ids (B, L)."""

    def __init__(self, backbone: GPT2Model) -> None:
        super().__init__()
        self.backbone = backbone
        self.blocks = nn.ModuleList(
            PaddedBlock(backbone.config, block) for block in backbone.h if isinstance(block, Block)
        )
        self.score = nn.Linear(backbone.config.n_embd, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.backbone.wte(input_ids) + self.backbone.wpe(positions)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.score(self.backbone.ln_f(x))
        return logits


def book_loop(config: TrainConfig, splits: Splits) -> list[tuple[float, float]]:
    """Trains as the book does; the printed (train loss, validation loss) pairs.

    Ends, as the book, with the accuracy over the whole of each part. Pads to ``max_tokens``: in the
    book 120, the longest of its training texts.
    """
    torch.manual_seed(config.seed)
    model = PaddedClassifier(load_base(config.base))
    model.requires_grad_(config.trained == "all")
    if config.trained == "last_block":
        for part in (model.blocks[-1], model.backbone.ln_f, model.score):
            part.requires_grad_(True)
    parts = [tokenize(part, config.max_tokens) for part in vars(splits).values()]
    torch.manual_seed(config.seed)
    loaders = [_loader(part, config, training=part is parts[0]) for part in parts]
    torch.manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    printed = []
    step = -1
    for _ in range(config.epochs):
        for batch in loaders[0]:
            optimizer.zero_grad()
            _loss(model, batch, config).backward()
            optimizer.step()
            step += 1
            if step % config.eval_every == 0:
                train_loss, validation_loss = (
                    _mean_loss(model, loader, config) for loader in loaders[:2]
                )
                printed.append((train_loss, validation_loss))
        for loader in loaders[:2]:
            _accuracy(model, islice(loader, config.eval_batches), config)
    for loader in loaders:
        _accuracy(model, loader, config)
    return printed


def _loader(part: list[TokenizedExample], config: TrainConfig, *, training: bool):
    rows = []
    for tokens, label in part:
        padding = [ENDOFTEXT] * (config.max_tokens - len(tokens))
        rows.append((torch.tensor(tokens + padding), len(tokens) - 1, label))
    dataset: Any = rows
    return DataLoader(dataset, config.batch_size, shuffle=training, drop_last=training)


def _logits(model: PaddedClassifier, batch, config: TrainConfig) -> Tensor:
    input_ids, last, _ = batch
    bf16 = torch.autocast("cpu", torch.bfloat16)
    with bf16 if config.precision == "bfloat16" else contextlib.nullcontext():
        logits: Tensor = model(input_ids)[torch.arange(len(last)), last].float()
    return logits


def _loss(model: PaddedClassifier, batch, config: TrainConfig) -> Tensor:
    return F.cross_entropy(_logits(model, batch, config), batch[2])


@torch.no_grad()
def _mean_loss(model: PaddedClassifier, loader, config: TrainConfig) -> float:
    losses = [_loss(model, b, config).item() for b in islice(loader, config.eval_batches)]
    return sum(losses) / len(losses)


@torch.no_grad()
def _accuracy(model: PaddedClassifier, batches, config: TrainConfig) -> float:
    right = total = 0
    for batch in batches:
        right += int((_logits(model, batch, config).argmax(-1) == batch[2]).sum())
        total += len(batch[2])
    return right / total
