"""bfloat16 on a CPU: laid-out weights, and rows of padding that change nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model import bf16, gpt2
from model.classifier import Classifier
from model.gpt2 import GPT2Config, GPT2ForSequenceClassification
from model.packing import PackedBatch, pack, round_up
from model.tokenizer import encode
from tests.conftest import AWKWARD_TEXTS, tiny_classifier_model
from training import activations

needs_bf16 = pytest.mark.skipif(
    not bf16.is_supported(), reason="needs a processor with AVX512-BF16 and torch with oneDNN"
)
LENGTHS = (3, 17, 40, 1)  # 61 tokens in 64 rows


def batch_of(lengths: tuple[int, ...]) -> PackedBatch:
    return pack([[7 * i % 100 for i in range(length)] for length in lengths])


def small_model() -> GPT2ForSequenceClassification:
    torch.manual_seed(0)
    return tiny_classifier_model(config=GPT2Config(n_layer=3, n_head=4, n_embd=64))


def rows_of_first_layer(model: GPT2ForSequenceClassification) -> list[int]:
    """The list that will hold how many rows enter the first block's MLP, call by call."""
    rows: list[int] = []
    model.get_submodule("transformer.h.0.mlp.c_fc").register_forward_hook(
        lambda module, inputs, output: rows.append(len(inputs[0]))
    )
    return rows


def test_rows_are_padded_for_bfloat16_alone() -> None:
    model = small_model()
    rows = rows_of_first_layer(model)
    batch = batch_of(LENGTHS)
    model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        model(batch)
    assert rows == [61, 64] == [batch.num_tokens, round_up(batch.num_tokens)]


@pytest.mark.parametrize("num_cached_blocks", [0, 1])
def test_padding_changes_neither_logits_nor_gradients(
    num_cached_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(LENGTHS)
    found = []
    for padded in (True, False):
        if not padded:
            monkeypatch.setattr(gpt2, "round_up", lambda num_rows: num_rows)
        model = small_model()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.transformer.embed(batch)[: batch.num_tokens]
            for block in model.transformer.h[:num_cached_blocks]:
                rows = round_up(batch.num_tokens) if padded else batch.num_tokens
                hidden = block(gpt2.pad_rows(hidden, rows), batch)[: batch.num_tokens]
            logits = model(batch, hidden, num_cached_blocks)
            states = model.transformer(batch)
        (logits.float().sum() + states.float().square().sum()).backward()
        found.append([logits, states, *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, atol=2e-2, rtol=2e-2)


@needs_bf16
@pytest.mark.parametrize("num_rows", [1, 8, 300])
def test_a_laid_out_layer_is_the_same_layer(num_rows: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 192).bfloat16()
    x = torch.randn(num_rows, 64).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(bf16.Bfloat16Linear(layer)(x), layer(x), atol=1e-2, rtol=1e-2)


@needs_bf16
def test_a_bfloat16_classifier_stays_near_float32(save_tiny: Callable[..., Path]) -> None:
    folder = save_tiny()
    texts = [*AWKWARD_TEXTS, "win a prize " * 200]
    rough = Classifier.load(folder, "cpu", "bfloat16")
    layer = rough._model.get_submodule("transformer.h.0.mlp.c_fc")
    assert isinstance(layer, bf16.Bfloat16Linear)
    exact = Classifier.load(folder, "cpu", "float32")
    for text in texts:
        ours, theirs = (c.classify([text])[0].spam_probability for c in (rough, exact))
        assert ours == pytest.approx(theirs, abs=0.02)
    together = rough.classify(texts)
    alone = [rough.classify([text])[0] for text in texts]
    for a, b in zip(together, alone, strict=True):
        assert a.spam_probability == pytest.approx(b.spam_probability, abs=0.01)
    assert len(encode(texts[-1], 1024)[0]) > 512


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bfloat16", [True, False])
def test_kept_activations_are_those_of_the_blocks(
    bfloat16: bool, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of texts in several batches and groups of batches, laid out block by block."""
    monkeypatch.setattr(activations, "_TOKENS_AT_ONCE", 50)
    monkeypatch.setattr(activations, "_BATCHES_A_BLOCK", 2)
    model = small_model()
    texts = [[7 * i % 100 for i in range(n)] for n in (30, 3, 20, 60, 1, 40, 9, 49)]
    parts = {"train": texts[:5], "test": texts[5:]}
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        caches = activations.cache_activations(
            model, parts, 2, torch.device("cpu"), causal=causal, max_memory_bytes=1 << 20
        )
    assert all(isinstance(layer, torch.nn.Linear) for layer in linear_layers(model))
    found = [caches["train"].gather([1, 4, 0]), caches["test"].gather([2])]
    for rows, own in zip(found, ([texts[1], texts[4], texts[0]], texts[7:]), strict=True):
        assert not rows.requires_grad
        with torch.no_grad():
            exact = model.transformer.embed(batch := pack(own, causal=causal))
            for block in model.transformer.h[:2]:
                exact = block(exact, batch)
        assert rows.shape == exact.shape
        assert (rows - exact).norm() < (0.02 if bfloat16 else 1e-5) * exact.norm()


def linear_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [layer for name, layer in model.named_modules() if name.endswith(("c_fc", "c_proj"))]
