"""What a training keeps of its model."""

from typing import Any

import pytest
import torch

from training.loop import Snapshot


def test_snapshot_restores_the_best_and_ignores_the_rest() -> None:
    model = torch.nn.Linear(2, 2)
    snapshot = Snapshot()
    snapshot.offer(model, 1, 0.5)
    best = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert not snapshot.offer(model, 2, 0.6)
    assert not snapshot.offer(model, 3, 0.5)
    snapshot.restore(model)
    assert (snapshot.step, snapshot.validation_loss) == (1, 0.5)
    assert model.weight.equal(best)


def test_ctrl_c_while_a_snapshot_is_taken_leaves_no_mixture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, snapshot = torch.nn.Linear(2, 2), Snapshot()
    snapshot.offer(model, 1, 0.5)
    with torch.no_grad():
        model.weight.add_(1)
        model.bias.add_(1)

    def interrupted() -> Any:
        yield "weight", model.weight
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model, "named_parameters", interrupted)
        with pytest.raises(KeyboardInterrupt):
            snapshot.offer(model, 2, 0.1)
    assert snapshot.offer(model, 3, 0.9)  # what a run keeps at its end, as no snapshot is whole
    assert (snapshot.step, snapshot.validation_loss) == (3, 0.9)
    assert all(snapshot.tensors[name].equal(own) for name, own in model.named_parameters())
