"""Of several seeds validation alone chooses one."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training import finetune, seeds
from training.command import CtrlC
from training.config import TrainConfig, TrainingError
from training.loop import Trainer
from training.measuring import TrainedClassifier
from training.run import finetune as finetune_once


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
    config, run, results, failed = seeds.finetune_seeds(
        TrainConfig(seed=7), 3, [], torch.device("cpu"), CtrlC()
    )
    assert (config.seed, failed) == (8, None)
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
    config, _, results, failed = seeds.finetune_seeds(*arguments)
    assert (config.seed, [result.seed for result in results], failed) == (7, [7, 8], 9)
    told = f"seed 9 failed, the seeds before it are kept: {error}"
    assert told in capsys.readouterr().out
    failing = 7
    with pytest.raises(type(error)):
        seeds.finetune_seeds(*arguments)


def test_a_seed_that_fails_is_not_told_as_ctrl_c(
    corpus: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def diverge_with_the_second(config: TrainConfig, *rest: Any) -> TrainedClassifier:
        if config.seed == 6:
            trainer: Any = SimpleNamespace(passes=3)
            Trainer.check(trainer, math.nan, "loss")
        return finetune_once(config, *rest)

    monkeypatch.setattr(seeds, "finetune", diverge_with_the_second)
    out = tmp_path / "run"
    flags = ["--epochs", "1", "--seed", "5", "--seeds", "3", "--out", str(out)]
    assert finetune.main([str(recipe), "--data", str(corpus), *flags]) == 2
    printed = capsys.readouterr().out
    assert "seed 6 failed, the seeds before it are kept: the loss is nan at step 3" in printed
    assert "Nothing was saved" not in printed
    assert printed.endswith(f"saved to {out} (stopped early: seed 6 failed)\n")
    assert [seed["seed"] for seed in json.loads((out / "run.json").read_text())["seeds"]] == [5]
