"""GPT-2 in PyTorch under Hugging Face's parameter names: the network alone, no files, no tokens.

T tokens in the batch, R rows that they are padded to between two attentions, B sequences, S rows
that their last tokens are padded to, C = n_embd, H = n_head, D = C / H, V = vocab_size. Linear
layers hold (out, in) weights; the published files hold Conv1D weights (in, out), turned in
``published``.
Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.ngrams import NgramTable
from model.packing import PackedBatch, packed_attention, round_up, weighted_sums

LABELS = ("ham", "spam")

_GELU_SCALE = 2 * math.sqrt(2 / math.pi)
_GELU_LINEAR = torch.tensor(_GELU_SCALE)
_GELU_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class GPT2Config:
    """Sizes of one GPT-2, under Hugging Face's names. The defaults are the 124M model's.

    Attributes:
        n_layer: number of blocks.
        n_head: attention heads a block; divides ``n_embd``.
        n_embd: width of the residual stream.
        n_positions: longest text in tokens.
        vocab_size: tokens in the vocabulary.
        layer_norm_epsilon: added to the variance in every LayerNorm.
        initializer_range: standard deviation of new weights.
    """

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_positions: int = 1024
    vocab_size: int = 50257
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if min(self.n_layer, self.n_head, self.n_embd, self.n_positions, self.vocab_size) < 1:
            raise ValueError(f"every size of a GPT-2 is at least 1: {self}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_head = {self.n_head} does not divide n_embd = {self.n_embd}.")


def pad_rows(x: Tensor, num_rows: int) -> Tensor:
    """(T, C) with rows of zeros below, (num_rows, C); the same tensor where none is missing."""
    return F.pad(x, (0, 0, 0, num_rows - len(x))) if num_rows > len(x) else x


class Attention(nn.Module):
    """Multi-head causal self-attention inside each text of a packed batch."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, batch: PackedBatch, last_only: bool) -> Tensor:
        """Maps (R, C) to (R, C), or to (S, C) for the last tokens alone."""
        if last_only:
            attended = self.attend_last(x, batch)
            attended = pad_rows(attended, batch.num_last_rows)
        else:
            attended = pad_rows(self.attend(x, batch), len(x))
        out: Tensor = self.c_proj(attended)
        return out

    def attend(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """What each token takes from its text before ``c_proj``: (T, C)."""
        qkv = self.c_attn(x)[: batch.num_tokens]
        q, k, v = (t.view(len(qkv), self.n_head, -1) for t in qkv.chunk(3, dim=-1))
        return packed_attention(q, k, v, batch).flatten(1)  # (T, H, D) -> (T, C)

    def attend_last(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """What the last token of each text takes from it before ``c_proj``: (B, C) or (S, C)."""
        C, H = x.shape[-1], self.n_head
        q_weight, k_weight, v_weight = torch.split(self.c_attn.weight, C)
        q_bias, k_bias, v_bias = torch.split(self.c_attn.bias, C)
        last = pad_rows(x[batch.last_rows], batch.num_last_rows)
        x = x[: batch.num_tokens]
        q = F.linear(last, q_weight, q_bias).view(-1, H, C // H)
        if x.is_cuda:
            k, v = F.linear(x, k_weight, k_bias), F.linear(x, v_weight, v_bias)
            k, v = (t.view(len(x), H, -1) for t in (k, v))
            return packed_attention(q, k, v, batch).flatten(1)
        # q (K x) = (q K) x and sum a (V x) = V (sum a x): projecting the one query and the one sum
        # of a text costs a fraction of projecting its tokens. The keys' bias adds the same to every
        # score of a text, and the values' bias the same to every sum.
        q = torch.einsum("bhd,hdc->bhc", q, k_weight.view(H, -1, C)) / math.sqrt(C // H)
        sums = weighted_sums(q[: batch.num_texts], x, batch)  # (B, H, C)
        if len(q) > len(sums):
            sums = F.pad(sums, (0, 0, 0, 0, 0, len(q) - len(sums)))
        return torch.einsum("bhc,hdc->bhd", sums, v_weight.view(H, -1, C)).flatten(1) + v_bias


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form; overwrites ``x`` on a CPU that wants no gradient."""
    if x.requires_grad or x.is_cuda:
        return F.gelu(x, approximate="tanh")
    # (1 + tanh(u)) / 2 = sigmoid(2u): the same function in half of torch's time for it, a few rows
    # at once so that they stay in the processor's own cache.
    for rows in torch.split(x, max(1, _GELU_ELEMENTS // x.shape[-1])):
        exact = rows.float()
        twice_u = torch.addcmul(_GELU_LINEAR, exact, exact, value=0.044715 * _GELU_SCALE)
        rows.copy_(exact.mul_(twice_u.mul_(exact).sigmoid_()))
    return x


class MLP(nn.Module):
    """Two linear layers around GELU in its tanh form, the form GPT-2 was trained with."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, batch: PackedBatch, last_only: bool = False) -> Tensor:
        """Maps (R, C) to (R, C), or to (S, C) where only the last tokens are wanted."""
        attended = self.attn(self.ln_1(x), batch, last_only)
        x = (pad_rows(x[batch.last_rows], len(attended)) if last_only else x) + attended
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT2Model(nn.Module):
    """Embeddings, blocks and the final LayerNorm."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, batch: PackedBatch, last_only: bool = False) -> Tensor:
        """Hidden states after the final LayerNorm.

        Args:
            batch: texts of at most ``n_positions`` tokens each.
            last_only: compute the last block's query, projection and MLP for each text's last token
                alone. Exact for whoever reads no other row, gradients included.

        Returns:
            (T, C), or (B, C) with ``last_only``.
        """
        return self.upper(self.embed(batch), batch, 0, last_only)

    def embed(self, batch: PackedBatch) -> Tensor:
        """The residual stream (R, C) that enters the first block."""
        x: Tensor = self.wte(batch.input_ids) + self.wpe(batch.position_ids)
        return pad_rows(x, self._num_rows(batch))

    def upper(self, x: Tensor, batch: PackedBatch, num_blocks: int, last_only: bool) -> Tensor:
        """What ``forward`` returns, from the residual stream (T, C) or (R, C) after some blocks.

        ``num_blocks`` says how many; it is less than ``n_layer``.
        """
        x = pad_rows(x, self._num_rows(batch))
        for block in self.h[num_blocks:-1]:
            x = block(x, batch)
        x = self.h[-1](x, batch, last_only)
        out: Tensor = self.ln_f(x[: batch.num_texts if last_only else batch.num_tokens])
        return out

    def _num_rows(self, batch: PackedBatch) -> int:
        """R, which is T where float32 or a GPU computes: there no kernel is made for its sake."""
        layer = self.get_submodule("h.0.mlp.c_fc")
        is_float32 = isinstance(layer, nn.Linear) and layer.weight.dtype == torch.float32
        if batch.input_ids.is_cuda or (is_float32 and not torch.is_autocast_enabled("cpu")):
            return batch.num_tokens
        return round_up(batch.num_tokens)


class GPT2LMHeadModel(nn.Module):
    """GPT-2 as it was pretrained: next-token logits, the output layer tied to the embeddings."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = GPT2Model(config)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Next-token logits (T, V)."""
        return F.linear(self.transformer(batch), self.transformer.wte.weight)


class GPT2ForSequenceClassification(nn.Module):
    """GPT-2 with a two-class head in place of the language head, read at each text's last token.

    ``head_bias`` gives the head the bias that the book trains; ``fold_head_bias`` moves it into
    ``ln_f`` afterwards, since the published class has none. ``read`` is ``last``, or for the book's
    comparisons ``first`` or ``mean`` (of all tokens' final states). ``ngrams``, where there is one,
    has a say beside the head; it reads whole texts, of which this may see windows, and whoever has
    both weighs and adds what they say (``add_ngrams``).
    """

    def __init__(
        self,
        config: GPT2Config,
        head_bias: bool = False,
        read: Literal["last", "first", "mean"] = "last",
    ) -> None:
        super().__init__()
        self.config = config
        self.read = read
        self.ngrams: NgramTable | None = None
        self.transformer = GPT2Model(config)
        self.score = nn.Linear(config.n_embd, len(LABELS), bias=head_bias)

    def forward(
        self, batch: PackedBatch, hidden: Tensor | None = None, num_blocks: int = 0
    ) -> Tensor:
        """Logits (B, 2), ham first.

        Args:
            batch: the texts.
            hidden: (T, C), the residual stream after ``num_blocks`` blocks, where the caller has
                kept it: those are then not computed again.
            num_blocks: blocks already in ``hidden``.
        """
        if hidden is None:
            hidden, num_blocks = self.transformer.embed(batch), 0
        last_only = self.read == "last"
        states = self.transformer.upper(hidden, batch, num_blocks, last_only)
        if self.read == "first":
            states = states[batch.cu_seqlens[:-1].long()]
        elif self.read == "mean":
            states = torch.stack(
                [text.mean(0) for text in torch.split(states, list(batch.lengths))]
            )
        logits: Tensor = self.score(states)  # (B, C) -> (B, 2)
        return logits


def init_weights(model: nn.Module, config: GPT2Config) -> None:
    """Draws GPT-2's starting weights in place, from torch's global generator.

    LayerNorms begin with scale 1 and shift 0, for which nothing is drawn.
    """
    residual_std = config.initializer_range / math.sqrt(2 * config.n_layer)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            into_residual = name.endswith("c_proj")
            std = residual_std if into_residual else config.initializer_range
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()


@torch.no_grad()
def fold_head_bias(model: GPT2ForSequenceClassification) -> None:
    """Moves the head's bias into the final LayerNorm's shift, in place; every logit stays the same.

    The shift feeds the head alone, so the smallest change d with ``score.weight @ d = bias`` does
    the work of the bias.
    """
    if model.score.bias is None:
        return
    shift = torch.linalg.pinv(model.score.weight.double()) @ model.score.bias.double()
    model.transformer.ln_f.bias.add_(shift)
    model.score.register_parameter("bias", None)
