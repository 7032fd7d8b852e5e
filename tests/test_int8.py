"""int8 layers: near float32, the same alone as in a batch, and refused where they would differ."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model import classifier, int8
from model.classifier import Classifier
from model.gpt2 import GPT2Config
from model.packing import pack, round_up
from model.tokenizer import encode
from tests.conftest import AWKWARD_TEXTS, tiny_classifier_model

pytestmark = pytest.mark.skipif(
    not int8.is_supported(), reason="needs a processor with VNNI and torch with oneDNN"
)


@pytest.mark.parametrize("shape", [(1, 32, 96), (50, 128, 512), (7, 64, 64)])
def test_a_layer_is_as_near_as_eight_bits_allow(shape: tuple[int, int, int]) -> None:
    tokens, inputs, outputs = shape
    torch.manual_seed(0)
    x = torch.randn(tokens, inputs) * torch.logspace(-3, 3, tokens)[:, None]  # rows differ in size
    layer = torch.nn.Linear(inputs, outputs)
    # Without the bias, which is exact, and all that there is of a small row.
    exact = layer(x) - layer.bias
    rough = int8.Int8Linear(layer.weight, layer.bias)(x) - layer.bias
    error = (exact - rough).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 0.014  # 0.018 where activations are cut off and not rounded


def test_zero_and_outlier_rows_stay_finite() -> None:
    layer = torch.nn.Linear(16, 16)
    x = torch.zeros(3, 16)
    x[1] = 1e30
    x[2, 3] = -1e-30
    out = int8.Int8Linear(layer.weight, layer.bias)(x)
    assert out.isfinite().all()
    torch.testing.assert_close(out[0], layer.bias.detach())


def test_a_text_gets_the_same_answer_alone_and_in_any_batch() -> None:
    model = tiny_classifier_model(config=GPT2Config(n_layer=3, n_head=4, n_embd=64))
    texts = [encode(text, 1024)[0] for text in AWKWARD_TEXTS]
    with torch.inference_mode():
        exact = model(pack(texts)).softmax(-1)
        int8.quantize(model)
        together = model(pack(texts)).softmax(-1)
        alone = torch.cat([model(pack([text])) for text in texts]).softmax(-1)
        reversed_ = model(pack(texts[::-1])).softmax(-1).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, reversed_, atol=1e-5, rtol=0)
    assert 0 < (together - exact).abs().max() < 0.1


def test_every_product_has_a_number_of_rows_that_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """oneDNN keeps a kernel for each that it meets."""
    rows: list[int] = []
    product = int8.Int8Linear.forward

    def forward(self: int8.Int8Linear, x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return product(self, x)

    monkeypatch.setattr(int8.Int8Linear, "forward", forward)
    model = tiny_classifier_model()
    int8.quantize(model)
    with torch.inference_mode():
        logits = model(pack([[7] * length for length in range(1, 12)]))  # 66 tokens
        assert set(rows) == {round_up(66), round_up(11)} == {72, 16}
    assert logits.shape == (11, 2)


def test_the_fastest_format_is_one_that_keeps_the_golden_answers(
    save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {torch.float32: 1.0, torch.bfloat16: 1.0, torch.int8: 0.1}
    monkeypatch.setattr(Classifier, "trial_seconds", lambda self: times[self.dtype])
    folder = save_tiny()
    assert Classifier.load(folder, "cpu", "auto").dtype == torch.int8
    times[torch.int8] = 0.95
    assert Classifier.load(folder, "cpu", "auto").dtype == torch.float32
    times[torch.int8] = 0.1
    monkeypatch.setitem(classifier.GOLDEN_TOLERANCE, torch.int8, 1e-9)
    assert Classifier.load(folder, "cpu", "auto").dtype == torch.float32
    (folder / "golden.json").unlink()
    monkeypatch.undo()
    assert Classifier.load(folder, "cpu", "auto").dtype == torch.float32
