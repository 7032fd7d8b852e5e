"""The network against transformers' on random weights: logits, gradients, the last token alone."""

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
import transformers
from torch import Tensor

from model.checkpoint import save_classifier
from model.gpt2 import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    fold_head_bias,
    gelu,
    init_weights,
)
from model.packing import PackedBatch, pack
from model.tokenizer import ENDOFTEXT, encode
from tests.conftest import AWKWARD_TEXTS, TINY, OnGpu, randomize, tiny_classifier_model
from training.config import TrainConfig
from training.freeze import freeze
from training.lora import merge_lora

TOKENS = [encode(text, 64)[0] for text in AWKWARD_TEXTS]


def load_theirs(
    folder: Path, model: GPT2ForSequenceClassification
) -> transformers.GPT2ForSequenceClassification:
    save_classifier(folder, model, read_token="last")
    return transformers.GPT2ForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


def padded(token_lists: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids and attention mask, as transformers takes them."""
    width = max(map(len, token_lists))
    ids = torch.full((len(token_lists), width), ENDOFTEXT)
    mask = torch.zeros(len(token_lists), width, dtype=torch.int64)
    for row, tokens in enumerate(token_lists):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def assert_padded_packed_and_single_agree(
    folder: Path, ours: GPT2ForSequenceClassification
) -> None:
    # transformers finds the last token by its id, so the empty text (ENDOFTEXT alone) is left out.
    texts = [tokens for tokens in TOKENS if tokens != [ENDOFTEXT]]
    with torch.no_grad():
        theirs = load_theirs(folder, ours)
        input_ids, attention_mask = padded(texts)
        reference = theirs(input_ids=input_ids, attention_mask=attention_mask).logits
        packed = ours(pack(texts))
        single = torch.cat([ours(pack([text])) for text in texts])
    scale = reference.abs().max().clamp(min=1.0)
    torch.testing.assert_close(packed / scale, reference / scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(single / scale, reference / scale, atol=1e-5, rtol=0)


def test_padded_packed_and_single_logits_agree_with_transformers(tmp_path: Path) -> None:
    assert_padded_packed_and_single_agree(tmp_path, tiny_classifier_model(head_bias=True))


@pytest.mark.slow
def test_124m_logits_agree_with_transformers(tmp_path: Path) -> None:
    """Matrices as small as GPT-2's own: larger ones saturate each softmax, and rounding grows."""
    ours = tiny_classifier_model(config=GPT2Config(), head_bias=True)
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.ndim == 2:
                parameter.mul_(0.2)  # from 0.2 to a standard deviation of 0.04
    assert_padded_packed_and_single_agree(tmp_path, ours)


def test_book_padding_read_at_a_fixed_position_agrees_with_transformers(tmp_path: Path) -> None:
    """The book pads with ENDOFTEXT, masks nothing and reads the last position: a text of pads."""
    ours = tiny_classifier_model()
    texts = [(tokens + [ENDOFTEXT] * 20)[:20] for tokens in TOKENS]
    backbone = load_theirs(tmp_path, ours)
    with torch.no_grad():
        hidden = backbone.transformer(torch.tensor(texts)).last_hidden_state[:, 19]
        reference = backbone.score(hidden)
        torch.testing.assert_close(ours(pack(texts)), reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("read", ["last", "first", "mean"])
def test_what_a_gpu_is_given_to_compute_comes_to_the_same(
    read: Literal["last", "first", "mean"], learns: bool
) -> None:
    """There no rows are padded, and keys and values of the last block are projected as any."""
    model = tiny_classifier_model()
    model.read = read
    batch = pack(TOKENS)
    tensors = batch.input_ids, batch.position_ids, batch.cu_seqlens
    input_ids, position_ids, cu_seqlens = (tensor.as_subclass(OnGpu) for tensor in tensors)
    of_gpu = PackedBatch(input_ids, position_ids, cu_seqlens, batch.lengths)
    assert of_gpu.num_last_rows == batch.num_texts < batch.num_last_rows
    found = []
    for given in (batch, of_gpu):
        model.zero_grad()
        with torch.set_grad_enabled(learns):
            logits = model(given)
        if learns:
            logits.square().sum().backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append([logits.detach().as_subclass(Tensor), *gradients])
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


LABELS = torch.arange(len(TOKENS) - 1) % 2


def gradients(model: GPT2ForSequenceClassification) -> dict[str, Tensor | None]:
    """Ours, after one backward pass over the texts that transformers can read, too."""
    texts = [tokens for tokens in TOKENS if tokens != [ENDOFTEXT]]
    torch.nn.functional.cross_entropy(model(pack(texts)), LABELS).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def their_gradients(folder: Path, model: GPT2ForSequenceClassification) -> dict[str, Tensor]:
    """Theirs of all weights, turned into our shapes."""
    theirs = load_theirs(folder, model)
    texts = [tokens for tokens in TOKENS if tokens != [ENDOFTEXT]]
    input_ids, attention_mask = padded(texts)
    theirs(input_ids=input_ids, attention_mask=attention_mask, labels=LABELS).loss.backward()
    conv1d = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        name: parameter.grad.t() if name.endswith(conv1d) else parameter.grad
        for name, parameter in theirs.named_parameters()
    }


@pytest.mark.parametrize(
    ("trained", "count"), [("head", 1), ("last_block", 15), ("last_two_blocks", 27), ("all", 41)]
)
def test_gradients_of_each_trained_part_agree_with_transformers(
    trained: Literal["head", "last_block", "last_two_blocks", "all"], count: int, tmp_path: Path
) -> None:
    ours = tiny_classifier_model(config=replace(TINY, n_layer=3))
    freeze(ours, TrainConfig(trained=trained))
    computed = {name: grad for name, grad in gradients(ours).items() if grad is not None}
    assert len(computed) == count
    reference = their_gradients(tmp_path, ours)
    for name, grad in computed.items():
        torch.testing.assert_close(grad, reference[name], atol=1e-5, rtol=1e-5, msg=name)


def test_gradients_of_lora_agree_with_transformers_on_the_merged_weights(tmp_path: Path) -> None:
    """For W + alpha (A B)^T: dA = alpha dW^T B^T and dB = alpha A^T dW^T."""
    ours = tiny_classifier_model()
    freeze(ours, TrainConfig(trained="lora", lora_rank=4, lora_alpha=2.0))
    learning = {name: p.detach() for name, p in ours.named_parameters() if p.requires_grad}
    factors = {name: p for name, p in learning.items() if name.endswith((".A", ".B"))}
    for name, factor in factors.items():
        if name.endswith(".B"):
            factor.normal_(0, 0.1)
    computed = gradients(ours)
    merged = copy.deepcopy(ours)
    merge_lora(merged)
    reference = their_gradients(tmp_path, merged)
    for name in factors:
        layer, _, factor_name = name.rpartition(".")
        dW = reference[f"{layer}.weight"]
        A, B = factors[f"{layer}.A"], factors[f"{layer}.B"]
        expected = 2.0 * (dW.t() @ B.t() if factor_name == "A" else A.t() @ dW.t())
        torch.testing.assert_close(computed[name], expected, atol=1e-5, rtol=1e-5, msg=name)
    assert len(factors) == 2 * (2 * 4 + 1)
    torch.testing.assert_close(computed["score.base.weight"], reference["score.weight"])


@pytest.mark.parametrize("layer_norm_epsilon", [1e-5, 0.1])
def test_language_model_logits_agree_with_transformers(layer_norm_epsilon: float) -> None:
    torch.manual_seed(0)
    config = replace(TINY, layer_norm_epsilon=layer_norm_epsilon)
    ours = GPT2LMHeadModel(config)
    randomize(ours)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**asdict(config))).eval()
    weights = {
        name: tensor.t()
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        else tensor
        for name, tensor in ours.state_dict().items()
    }
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    with torch.no_grad():
        for tokens in TOKENS:
            reference = theirs(torch.tensor([tokens])).logits[0]
            torch.testing.assert_close(ours(pack([tokens])), reference, atol=1e-4, rtol=1e-5)


def test_last_token_alone_equals_all_tokens_computed() -> None:
    model = tiny_classifier_model().transformer
    batch = pack(TOKENS)
    with torch.no_grad():
        every = model(batch)[batch.last_rows]
        torch.testing.assert_close(model(batch, last_only=True), every, atol=1e-5, rtol=1e-5)


def test_probabilities_do_not_depend_on_neighbours() -> None:
    model = tiny_classifier_model()

    def spam_probability(batch: PackedBatch, row: int) -> float:
        with torch.no_grad():
            return float(model(batch).softmax(-1)[row, 1])

    for text in TOKENS:
        alone = spam_probability(pack([text]), 0)
        for neighbours in (TOKENS, TOKENS[::-1], [text] * 30):
            assert spam_probability(pack([*neighbours, text]), len(neighbours)) == pytest.approx(
                alone, abs=1e-5
            )


def test_folding_the_head_bias_changes_no_logit() -> None:
    model = tiny_classifier_model(head_bias=True)
    batch = pack(TOKENS)
    with torch.no_grad():
        before = model(batch)
        fold_head_bias(model)
        assert model.score.bias is None
        torch.testing.assert_close(model(batch), before, atol=1e-5, rtol=1e-5)


def test_published_sizes_have_their_published_parameter_counts() -> None:
    sizes = {
        GPT2Config(): 124_439_808,
        GPT2Config(n_layer=24, n_head=16, n_embd=1024): 354_823_168,
        GPT2Config(n_layer=36, n_head=20, n_embd=1280): 774_030_080,
        GPT2Config(n_layer=48, n_head=25, n_embd=1600): 1_557_611_200,
    }
    for config, count in sizes.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in GPT2LMHeadModel(config).parameters()) == count


def test_new_weights_are_drawn_as_those_of_gpt2() -> None:
    """Those that write into the residual stream smaller, by the root of how many there are."""
    torch.manual_seed(0)
    config = GPT2Config(n_layer=8, n_head=4, n_embd=64, initializer_range=0.03)
    model = GPT2ForSequenceClassification(config, head_bias=True)
    init_weights(model, config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "ln_" not in name:
            expected = 0.03 / 4 if "c_proj" in name else 0.03
            assert parameter.std().item() == pytest.approx(expected, rel=0.25), name


def test_new_weights_keep_nothing_of_those_before() -> None:
    models = tiny_classifier_model(head_bias=True), GPT2ForSequenceClassification(TINY, True)
    for model in models:  # the one has norms of its own, the other none yet
        torch.manual_seed(0)
        init_weights(model, TINY)
    first, second = (model.state_dict() for model in models)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_every_size_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GPT2Config(n_layer=0)


def test_head_count_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="n_head = 3 does not divide n_embd = 32"):
        GPT2Config(n_head=3, n_embd=32)


def test_gelu_of_inference_is_that_of_training() -> None:
    x = torch.cat([torch.linspace(-12, 12, 999), torch.tensor([0.0, 1e4, -1e4])])
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(gelu(x.clone().requires_grad_()), expected)
    torch.testing.assert_close(gelu(x.clone()), expected)
