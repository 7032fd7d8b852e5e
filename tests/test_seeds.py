"""Of several seeds validation alone chooses one."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training import seeds
from training.command import CtrlC
from training.config import TrainConfig, TrainingError


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


@pytest.mark.parametrize(
    "error",
    [
        TrainingError("the loss is nan"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_seed_that_fails_loses_none_of_those_before_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finetune(config: TrainConfig, *_: object) -> SimpleNamespace:
        if config.seed == failing:
            raise error
        measured = SimpleNamespace(accuracy=1.0)
        snapshot = SimpleNamespace(step=1, validation_loss=0.1)
        return SimpleNamespace(
            outcome=SimpleNamespace(snapshot=snapshot, interrupted=False),
            metrics={"validation": measured, "test": measured},
        )

    monkeypatch.setattr(seeds, "finetune", finetune)
    failing = 9
    arguments: tuple[Any, ...] = (TrainConfig(seed=7), 5, [], torch.device("cpu"), CtrlC())
    config, _, results = seeds.finetune_seeds(*arguments)
    assert (config.seed, [result.seed for result in results]) == (7, [7, 8])
    told = f"seed 9 failed, the seeds before it are kept: {error}"
    assert told in capsys.readouterr().out
    failing = 7
    with pytest.raises(type(error)):
        seeds.finetune_seeds(*arguments)
