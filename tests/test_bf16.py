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
            hidden = model.transformer.lower(batch, num_cached_blocks)
            assert len(hidden) == batch.num_tokens
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
    together = rough.predict([rough.encode(text) for text in texts])
    alone = [rough.classify([text])[0] for text in texts]
    for a, b in zip(together, alone, strict=True):
        assert a.spam_probability == pytest.approx(b.spam_probability, abs=0.01)
    assert len(encode(texts[-1], 1024)[0]) > 512
