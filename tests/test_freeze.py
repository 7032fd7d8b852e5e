"""What learns and what stays; LoRA."""

import pytest
import torch

from model.packing import pack
from tests.conftest import tiny_classifier_model
from training.config import TrainConfig
from training.data import (
    make_loader,
)
from training.freeze import freeze
from training.loop import Trainer
from training.lora import merge_lora

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ("head", {"score"}),
        ("last_block", {"score", "ln_f", "h.1"}),
        ("last_two_blocks", {"score", "ln_f", "h.0", "h.1"}),
        ("all", {"score", "ln_f", "h.0", "h.1", "wte", "wpe"}),
    ],
)
def test_only_the_named_part_learns(trained: str, expected: set[str]) -> None:
    model = tiny_classifier_model(head_bias=True)
    config = TrainConfig(
        trained=trained,
        epochs=1,
        batch_size=4,
        learning_rate=1e-2,
    )
    count = freeze(model, config)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    examples = [([1 + i, 2, 3], i % 2) for i in range(8)]
    loader = make_loader(examples, 4, training=True)
    Trainer(model, loader, make_loader(examples, 4), config, CPU).run()
    changed = {
        name for name, parameter in model.named_parameters() if not parameter.equal(before[name])
    }
    parts = {
        ".".join(name.removeprefix("transformer.").split(".")[: 2 if ".h." in name else 1])
        for name in changed
    }
    assert parts == expected
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_merged_lora_gives_the_logits_of_unmerged_lora() -> None:
    model = tiny_classifier_model()
    names = set(model.state_dict())
    before = model.score.weight.clone()
    freeze(model, TrainConfig(trained="lora", lora_rank=4, lora_alpha=2.0))
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".B"):
                parameter.normal_(0, 0.1)
        unmerged = model(batch)
        merge_lora(model)
        torch.testing.assert_close(model(batch), unmerged, atol=1e-5, rtol=1e-5)
    assert set(model.state_dict()) == names
    assert not model.score.weight.equal(before)


def test_lora_starts_at_the_base_and_trains_its_factors_and_the_head() -> None:
    model = tiny_classifier_model(head_bias=True)
    batch = pack([[1, 2, 3], [4, 5]])
    with torch.no_grad():
        before = model(batch)
    freeze(model, TrainConfig(trained="lora", lora_rank=4))
    with torch.no_grad():
        torch.testing.assert_close(model(batch), before)
    model(batch).sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    whole = {name for name in trained if not name.endswith((".A", ".B"))}
    assert whole == {"score.base.weight", "score.base.bias"}
    # two factors for each of four layers in two blocks, and the head's
    assert len(trained - whole) == 2 * (4 * 2 + 1)
