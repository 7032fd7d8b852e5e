"""Of several seeds validation alone chooses one."""

from types import SimpleNamespace

import pytest
import torch

from training import seeds
from training.command import CtrlC
from training.config import TrainConfig


def test_validation_chooses_the_seed_and_the_test_part_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validation = {7: 0.3, 8: 0.1, 9: 0.2}
    test_accuracy = {7: 0.98, 8: 0.9, 9: 0.99}

    def finetune(config: TrainConfig, *_: object) -> SimpleNamespace:
        loss, tested = validation[config.seed], test_accuracy[config.seed]
        return SimpleNamespace(
            outcome=SimpleNamespace(
                snapshot=SimpleNamespace(step=config.seed, validation_loss=loss), interrupted=False
            ),
            metrics={
                "train": SimpleNamespace(accuracy=1.0, loss=0.0),
                "validation": SimpleNamespace(accuracy=1 - loss, loss=loss),
                "test": SimpleNamespace(accuracy=tested, loss=1 - tested),
            },
        )

    monkeypatch.setattr(seeds, "finetune", finetune)
    config, run, results = seeds.finetune_seeds(
        TrainConfig(seed=7), 3, [], torch.device("cpu"), CtrlC()
    )
    assert config.seed == 8
    assert run.outcome.snapshot.validation_loss == 0.1
    assert [result.seed for result in results] == [7, 8, 9]
    assert seeds.as_table(results).splitlines()[2:] == [
        "| 7 | 7 | 0.3000 | 70.00% | 98.00% |",
        "| 8 | 8 | 0.1000 | 90.00% | 90.00% |",
        "| 9 | 9 | 0.2000 | 80.00% | 99.00% |",
    ]
